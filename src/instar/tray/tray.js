"use strict";
const element = (id) => document.getElementById(id);
const data = JSON.parse(element("data").textContent);
const tiles = JSON.parse(element("tiles").textContent);
const canvas = element("view");
const context = canvas.getContext("2d");
const layer = document.createElement("canvas"); // the outlines, kept while the view moves if they take long to draw
const layerContext = layer.getContext("2d");
const FOUND = data.scores.length;
const view = { x: data.width / 2, y: data.height / 2, zoom: 0 }; // middle in pixels of the photograph; screen per pixel
let threshold = data.confidence;
let selected = -1;

const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

// the outlines, see shapes.packed
function unpacked(bytes) {
  let place = 0;
  const next = () => {
    let number = 0, factor = 1, byte;
    do {
      byte = bytes[place++];
      number += (byte & 127) * factor;
      factor *= 128;
    } while (byte > 127);
    return number;
  };
  const signed = () => { const number = next(); return number % 2 ? -(number + 1) / 2 : number / 2; };
  const shapes = [];
  while (place < bytes.length) {
    const rings = [], box = [Infinity, Infinity, -Infinity, -Infinity];
    for (let count = next(); count > 0; count--) {
      const ring = new Float64Array(2 * next());
      for (let at = 0, x = 0, y = 0; at < ring.length; at += 2) {
        ring[at] = x += signed();
        ring[at + 1] = y += signed();
        box[0] = Math.min(box[0], x); box[1] = Math.min(box[1], y);
        box[2] = Math.max(box[2], x); box[3] = Math.max(box[3], y);
      }
      rings.push(ring);
    }
    shapes.push({ rings, box });
  }
  return shapes;
}
const shapes = unpacked(bytesOf(data.shapes));

// what is drawn in one colour; outlines differ in their dashes, too
const SCORES = [["#00224e", 0], ["#575d6d", 0.2], ["#a59c74", 0.4], ["#d9c55c", 0.6], ["#fee838", 0.8]]; // cividis
const groups = data.judged
  ? [
    { id: "known", name: "annotated and found", colour: "#ffffff", dash: [2, 2], shown: false, hollow: true },
    { id: "missed", name: "missed", colour: "#0072b2", dash: [6, 3], shown: true },
    { id: "right", name: "right", colour: "#009e73", dash: [], shown: true },
    { id: "wrong", name: "wrong", colour: "#d55e00", dash: [], shown: true, heavy: true },
  ]
  : SCORES.map(([colour, low], index) => ({ id: `score${index}`, name: `score from ${low}`, low, colour, dash: [], shown: true }));

function groupOf(shape) {
  if (shape < FOUND) {
    if (data.scores[shape] < threshold) return null;
    if (!data.judged) return `score${Math.min(4, Math.floor(5 * data.scores[shape]))}`;
    return data.animal[shape] < 0 ? "wrong" : "right";
  }
  const finder = data.finder[shape - FOUND];
  return finder >= 0 && data.scores[finder] >= threshold ? "known" : "missed";
}

function regroup() {
  const byId = Object.fromEntries(groups.map((group) => [group.id, group]));
  for (const group of groups) group.members = [];
  for (let shape = 0; shape < shapes.length; shape++) byId[groupOf(shape)]?.members.push(shape);
  for (const group of groups) element(`count_${group.id}`).textContent = group.members.length.toLocaleString("en");
  if (selected >= 0 && groupOf(selected) === null) selected = -1;
  element("score_text").textContent = threshold.toFixed(3);
  changed();
}

for (const group of [...groups].reverse()) {
  const item = document.createElement("li"), label = document.createElement("label"), box = document.createElement("input");
  const swatch = document.createElement("span"), count = document.createElement("span");
  Object.assign(box, { type: "checkbox", checked: group.shown });
  box.addEventListener("change", () => { group.shown = box.checked; changed(); });
  swatch.className = "swatch";
  swatch.style.borderColor = group.colour;
  swatch.style.borderStyle = group.dash.length ? "dashed" : "solid";
  if (!group.hollow) swatch.style.background = `${group.colour}66`;
  Object.assign(count, { className: "count", id: `count_${group.id}` });
  label.append(box, swatch, group.name, count);
  item.append(label);
  element("groups").append(item);
}

// ---- drawing

const MANY = 600; // outlines that take longer than a frame to draw: while the view moves, the last drawing is shifted
let due = false, layerView = null, drawn = 0, movedAt = 0, settling = 0;
function request() {
  if (!due) { due = true; requestAnimationFrame(draw); }
}
function changed() { layerView = null; request(); tell(); }
function moved() {
  view.x = Math.max(0, Math.min(data.width, view.x));
  view.y = Math.max(0, Math.min(data.height, view.y));
  view.zoom = Math.max(fitting() / 2, Math.min(32, view.zoom));
  movedAt = performance.now();
  clearTimeout(settling);
  settling = setTimeout(request, 130);
  request();
  tell();
}
const fitting = () => Math.min(canvas.clientWidth / data.width, canvas.clientHeight / data.height) || 1;
const sameView = (one, other) => one && one.x === other.x && one.y === other.y && one.zoom === other.zoom;
const ratio = () => window.devicePixelRatio || 1;

function place(onto) { // coordinates of the photograph on a canvas
  const scale = view.zoom * ratio();
  onto.setTransform(scale, 0, 0, scale, canvas.width / 2 - view.x * scale, canvas.height / 2 - view.y * scale);
}
function seen() {
  const x = canvas.clientWidth / 2 / view.zoom, y = canvas.clientHeight / 2 / view.zoom;
  return [view.x - x, view.y - y, view.x + x, view.y + y];
}
const meets = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];

function draw() {
  due = false;
  const width = Math.round(canvas.clientWidth * ratio()), height = Math.round(canvas.clientHeight * ratio());
  if (canvas.width !== width || canvas.height !== height) {
    for (const each of [canvas, layer]) Object.assign(each, { width, height });
    layerView = null;
  }
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, height);
  drawTiles();
  const moving = drawn > MANY && performance.now() - movedAt < 120;
  if (!layerView || (!sameView(layerView, view) && !moving)) drawLayer();
  const scale = view.zoom / layerView.zoom, shift = view.zoom * ratio();
  context.setTransform(scale, 0, 0, scale,
    (width / 2) * (1 - scale) + (layerView.x - view.x) * shift, (height / 2) * (1 - scale) + (layerView.y - view.y) * shift);
  context.imageSmoothingEnabled = true;
  context.drawImage(layer, 0, 0);
  element("zoom").textContent = `${(100 * view.zoom).toFixed(view.zoom < 0.1 ? 1 : 0)} %`;
  remember();
}

const bitmaps = new Map(), loading = new Set(), KEPT = 180, AT_ONCE = 6; // tiles; more would hold a frame up
function drawTiles() {
  const box = seen(), last = tiles.levels.length - 1;
  const wanted = Math.max(0, Math.min(last, Math.floor(Math.log2(1 / (view.zoom * ratio())))));
  place(context);
  context.imageSmoothingEnabled = view.zoom * ratio() < 3;
  for (let level = last; level >= wanted; level--) {
    const { width, height } = tiles.levels[level];
    const x = data.width / width, y = data.height / height, columns = Math.ceil(width / tiles.side);
    const rows = Math.ceil(height / tiles.side);
    const first = Math.max(0, Math.floor(box[0] / x / tiles.side)), end = Math.min(columns - 1, Math.floor(box[2] / x / tiles.side));
    const top = Math.max(0, Math.floor(box[1] / y / tiles.side)), foot = Math.min(rows - 1, Math.floor(box[3] / y / tiles.side));
    for (let row = top; row <= foot; row++) {
      for (let column = first; column <= end; column++) {
        const bitmap = tileOf(level, row * columns + column, level === wanted || level === last);
        if (bitmap) context.drawImage(bitmap, column * tiles.side * x, row * tiles.side * y, bitmap.width * x, bitmap.height * y);
      }
    }
  }
}
function tileOf(level, index, load) {
  const name = `${level}/${index}`, bitmap = bitmaps.get(name);
  if (bitmap) { bitmaps.delete(name); bitmaps.set(name, bitmap); return bitmap; } // now the last used
  if (load && loading.size < AT_ONCE && !loading.has(name)) {
    loading.add(name);
    createImageBitmap(new Blob([bytesOf(tiles.jpeg[level][index])], { type: "image/jpeg" })).then((made) => {
      loading.delete(name);
      bitmaps.set(name, made);
      for (const old of bitmaps.keys()) {
        if (bitmaps.size <= KEPT) break;
        bitmaps.get(old).close();
        bitmaps.delete(old);
      }
      request();
    });
  }
  return null;
}

function trace(onto, shape) { // corners nearer than a part of a screen's pixel are left out
  const { rings, box } = shapes[shape], step = 0.7 / view.zoom, least = 2 / view.zoom;
  const width = box[2] - box[0], height = box[3] - box[1];
  if (width < least && height < least) {
    onto.rect(box[0] + width / 2 - least / 2, box[1] + height / 2 - least / 2, least, least);
    return;
  }
  for (const ring of rings) {
    let x = ring[0], y = ring[1];
    onto.moveTo(x, y);
    for (let at = 2; at < ring.length; at += 2) {
      if (Math.abs(ring[at] - x) + Math.abs(ring[at + 1] - y) < step) continue;
      x = ring[at]; y = ring[at + 1];
      onto.lineTo(x, y);
    }
    onto.closePath();
  }
}

function drawLayer() {
  const box = seen(), filled = element("fill").checked;
  drawn = 0;
  layerContext.setTransform(1, 0, 0, 1, 0, 0);
  layerContext.clearRect(0, 0, layer.width, layer.height);
  place(layerContext);
  const line = Math.max(1, Math.min(2.2, 0.8 + view.zoom)) / view.zoom;
  for (const group of groups) {
    if (!group.shown) continue;
    layerContext.fillStyle = `${group.colour}55`;
    layerContext.strokeStyle = group.colour;
    layerContext.lineWidth = group.heavy ? 1.4 * line : line;
    layerContext.setLineDash(view.zoom > 1 ? group.dash.map((length) => length / view.zoom) : []);
    for (const shape of group.members) { // one by one: one path of thousands takes several times as long
      if (!meets(shapes[shape].box, box)) continue;
      drawn++;
      layerContext.beginPath();
      trace(layerContext, shape);
      if (filled && !group.hollow) layerContext.fill();
      layerContext.stroke();
    }
  }
  layerContext.setLineDash([]);
  if (selected >= 0) {
    layerContext.beginPath();
    trace(layerContext, selected);
    layerContext.strokeStyle = "#ffffff";
    layerContext.lineWidth = 3 / view.zoom;
    layerContext.stroke();
  }
  if (data.region && element("region").checked) {
    const [x, y, right, foot] = data.region;
    layerContext.strokeStyle = "#cc79a7";
    layerContext.lineWidth = 2 / view.zoom;
    layerContext.strokeRect(x, y, right - x, foot - y);
  }
  layerView = { ...view };
}

// ---- what is under the pointer, in words

function inside(rings, x, y) {
  let odd = false;
  for (const ring of rings) {
    for (let at = 0, before = ring.length - 2; at < ring.length; before = at, at += 2) {
      if (ring[at + 1] > y !== ring[before + 1] > y &&
        x < ((ring[before] - ring[at]) * (y - ring[at + 1])) / (ring[before + 1] - ring[at + 1]) + ring[at]) odd = !odd;
    }
  }
  return odd;
}
function under(x, y) { // the smallest shape there; the tiniest are met a little beside
  const slack = 3 / view.zoom;
  let best = -1;
  for (const group of groups) {
    if (!group.shown) continue;
    for (const shape of group.members) {
      const { box, rings } = shapes[shape];
      if (x < box[0] - slack || x > box[2] + slack || y < box[1] - slack || y > box[3] + slack) continue;
      const tiny = Math.max(box[2] - box[0], box[3] - box[1]) < 3 * slack;
      if ((tiny || inside(rings, x, y)) && (best < 0 || data.sizes[shape] <= data.sizes[best])) best = shape;
    }
  }
  return best;
}
const size = (shape) => `${data.sizes[shape].toLocaleString("en")} px${data.masks[shape < FOUND ? 0 : 1] ? "" : " (box)"}`;
function described(shape) {
  const lines = [], isFound = shape < FOUND, animal = isFound ? data.animal[shape] : shape - FOUND;
  if (isFound) {
    const name = data.judged ? (animal < 0 ? "Wrong: " : "Right: ") : "";
    lines.push(`${name}score ${data.scores[shape].toFixed(3)}, ${size(shape)}`);
  } else {
    lines.push(`${groupOf(shape) === "missed" ? "Missed" : "Annotated and found"}: ${size(shape)}`);
    const finder = data.finder[animal];
    if (finder >= 0) lines.push(`found with score ${data.scores[finder].toFixed(3)}`);
  }
  if (isFound && animal >= 0) lines.push(`IoU ${data.iou[shape].toFixed(2)} with an animal of ${size(FOUND + animal)}`);
  if (animal >= 0) lines.push(data.taxa[animal] || "no taxon named");
  return lines.join("\n");
}

function inView(counts) { // pairs of a group and how many of it
  if (data.judged) return counts.map(([group, count]) => `${count.toLocaleString("en")} ${group.name}`).join(", ");
  const some = counts.filter(([, count]) => count).map(([{ low }, count], place) => {
    const what = place ? "" : count === 1 ? " detection with a score" : " detections with a score";
    return `${count.toLocaleString("en")}${what} from ${low}`;
  });
  return some.join(", ") || "no detection";
}
let telling = 0;
function tell() {
  clearTimeout(telling);
  telling = setTimeout(() => {
    const box = seen();
    const counts = groups.filter((group) => group.shown && !group.hollow)
      .map((group) => [group, group.members.filter((shape) => meets(shapes[shape].box, box)).length]);
    const at = `x ${Math.round(view.x)}, y ${Math.round(view.y)}`;
    element("here").textContent = `In view: ${inView(counts.reverse())}. Middle at ${at}.`;
    const one = selected >= 0 ? ` Selected: ${described(selected).replaceAll("\n", ", ")}.` : "";
    element("told").textContent = `${element("here").textContent} Zoom ${Math.round(100 * view.zoom)} %.${one}`;
  }, 250);
}

// ---- moving about

function zoomBy(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const before = view.zoom, dx = x - canvas.clientWidth / 2, dy = y - canvas.clientHeight / 2;
  const after = Math.max(fitting() / 2, Math.min(32, before * factor));
  view.x += dx / before - dx / after;
  view.y += dy / before - dy / after;
  view.zoom = after;
  moved();
}
function fit() { Object.assign(view, { x: data.width / 2, y: data.height / 2, zoom: fitting() }); moved(); }
function select(id, back) { // the wrong by falling score, the missed by falling size
  const members = [...groups.find((group) => group.id === id).members];
  if (!members.length) return;
  members.sort((a, b) => (id === "wrong" ? data.scores[b] - data.scores[a] : data.sizes[b] - data.sizes[a]) || a - b);
  const at = members.indexOf(selected);
  selected = members[(at < 0 ? (back ? members.length - 1 : 0) : at + (back ? -1 : 1) + members.length) % members.length];
  const { box } = shapes[selected], side = Math.max(box[2] - box[0], box[3] - box[1], 8);
  const zoom = Math.min(canvas.clientWidth, canvas.clientHeight) / side / 5;
  Object.assign(view, { x: (box[0] + box[2]) / 2, y: (box[1] + box[3]) / 2, zoom: Math.min(12, zoom) });
  layerView = null;
  moved();
}

const pointers = new Map();
let spread = 0;
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, event);
  spread = 0;
});
for (const end of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(end, (event) => { pointers.delete(event.pointerId); spread = 0; });
}
canvas.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) { hover(event); return; }
  element("card").hidden = true;
  pointers.set(event.pointerId, event);
  view.x -= (event.clientX - before.clientX) / view.zoom / pointers.size;
  view.y -= (event.clientY - before.clientY) / view.zoom / pointers.size;
  if (pointers.size === 2) {
    const [one, other] = [...pointers.values()], bounds = canvas.getBoundingClientRect();
    const now = Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    const x = (one.clientX + other.clientX) / 2 - bounds.left, y = (one.clientY + other.clientY) / 2 - bounds.top;
    if (spread) zoomBy(now / spread, x, y);
    spread = now;
  }
  moved();
});
canvas.addEventListener("pointerleave", () => { element("card").hidden = true; });
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const lines = event.deltaMode ? 16 * event.deltaY : event.deltaY;
  zoomBy(Math.exp(-lines * (event.ctrlKey ? 0.01 : 0.0018)), event.offsetX, event.offsetY);
}, { passive: false });
canvas.addEventListener("dblclick", (event) => zoomBy(2, event.offsetX, event.offsetY));

function hover(event) {
  const bounds = canvas.getBoundingClientRect(), card = element("card");
  const px = event.clientX - bounds.left, py = event.clientY - bounds.top;
  const shape = under(view.x + (px - bounds.width / 2) / view.zoom, view.y + (py - bounds.height / 2) / view.zoom);
  card.hidden = shape < 0;
  if (shape < 0) return;
  card.textContent = described(shape);
  card.style.left = `${Math.min(px + 14, bounds.width - card.offsetWidth - 4)}px`;
  card.style.top = `${Math.min(py + 14, bounds.height - card.offsetHeight - 4)}px`;
}

canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const far = 0.15 * Math.min(canvas.clientWidth, canvas.clientHeight) / view.zoom;
  const moves = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] };
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (moves[key]) { view.x += moves[key][0]; view.y += moves[key][1]; moved(); }
  else if (key === "+" || key === "=") zoomBy(1.5);
  else if (key === "-" || key === "_") zoomBy(1 / 1.5);
  else if (key === "0" || key === "Home") fit();
  else if (key === "1") { view.zoom = 1; moved(); }
  else if (data.judged && key === "w") select("wrong", event.shiftKey);
  else if (data.judged && key === "m") select("missed", event.shiftKey);
  else return;
  event.preventDefault();
});
element("in").addEventListener("click", () => zoomBy(1.5));
element("out").addEventListener("click", () => zoomBy(1 / 1.5));
element("fit").addEventListener("click", fit);
element("one").addEventListener("click", () => { view.zoom = 1; moved(); });
element("fill").addEventListener("change", changed);
element("region")?.addEventListener("change", changed);
for (const id of ["wrong", "missed"]) element(id)?.addEventListener("click", (event) => select(id, event.shiftKey));
element("score").addEventListener("input", (event) => { threshold = Number(event.target.value); regroup(); });

// ---- the address tells the place

let remembering = 0;
function remember() {
  clearTimeout(remembering);
  remembering = setTimeout(() => {
    const place = `#x=${view.x.toFixed(1)}&y=${view.y.toFixed(1)}&z=${view.zoom.toFixed(4)}&s=${threshold}`;
    try { history.replaceState(null, "", place); } catch { /* some viewers forbid it */ }
  }, 300);
}
function recall() {
  const given = new URLSearchParams(location.hash.slice(1));
  const number = (name, otherwise) => {
    const value = given.has(name) ? Number(given.get(name)) : NaN;
    return Number.isFinite(value) ? value : otherwise;
  };
  view.zoom = number("z", fitting());
  view.x = number("x", data.width / 2);
  view.y = number("y", data.height / 2);
  threshold = Math.max(data.floor, Math.min(1, number("s", data.confidence)));
  element("score").value = threshold;
  regroup();
  moved();
}
window.addEventListener("hashchange", recall);
new ResizeObserver(() => { if (!view.zoom) view.zoom = fitting(); layerView = null; request(); }).observe(canvas);
recall();
canvas.focus({ preventScroll: true });
