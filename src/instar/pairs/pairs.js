"use strict";
const element = (id) => document.getElementById(id);
const data = JSON.parse(element("data").textContent);
const KEYS = { s: "same", d: "different", u: "unsure", m: "merge" };
const STORED = `instar pairs ${data.name}`;
const RANK = { keep: 0, drop: 1, relabel: 2 };
const WOULD = { merge: "two names, one individual is likelier", split: "one name, two individuals are likelier" };
let place = 0;
let answers = {}; // by the pair's place: [answer, when]

const kept = (action) => {
  try {
    return action();
  } catch {
    return null; // a browser may keep nothing for files
  }
};
const stored = JSON.parse(kept(() => localStorage.getItem(STORED)) || "{}");
answers = stored.answers || {};
element("who").value = stored.who || "";

function keep() {
  kept(() => localStorage.setItem(STORED, JSON.stringify({ answers, who: element("who").value })));
}

function told(key, identity) {
  const one = data.photographs[key];
  const parts = [identity === null ? "not named yet" : identity, one.date || "no date", one.orientation || "side not told"];
  return `${parts.join(" · ")} — ${key} (${one.credit})`;
}

// whether two known individuals may be one
const mergeable = (pair) => pair.identity !== null && pair.identity !== pair.other;

function effect(pair) {
  if (!mergeable(pair)) return "";
  const others = data.individuals[pair.identity].filter(([key]) => key !== pair.left).length;
  const kept = others ? `“same” calls this photograph ${pair.other}, and ${others} others stay ${pair.identity}; ` : "";
  return ` — ${kept}“merge” calls all photographs of ${pair.identity} ${pair.other}`;
}

function show() {
  const pair = data.pairs[place];
  for (const [side, identity] of [["left", pair.identity], ["right", pair.other]]) {
    element(side).src = data.photographs[pair[side]].uri;
    element(`${side}_told`).textContent = told(pair[side], identity);
  }
  const would = WOULD[pair.would] ? `: ${WOULD[pair.would]}` : "";
  const sure = `calibrated score ${pair.probability.toFixed(2)} of 1`;
  element("state").textContent = `Pair ${place + 1} of ${data.pairs.length}, ${pair.dataset}: ${sure}${would}${effect(pair)}`;
  element("merge").disabled = !mergeable(pair);
  for (const answer of Object.values(KEYS)) {
    element(answer).setAttribute("aria-pressed", String((answers[place] || [])[0] === answer));
  }
  const { rows, conflicts } = decisions();
  const twice = conflicts ? `, ${conflicts} photographs were said to be of two individuals: the later answer counts, and merging counts more than “different”` : "";
  element("counts").textContent = `${Object.keys(answers).length} answered, ${rows.length} decisions${twice}`;
}

function go(step) {
  place = Math.min(Math.max(place + step, 0), data.pairs.length - 1);
  show();
}

function answer(text) {
  if (text === "merge" && !mergeable(data.pairs[place])) return;
  answers[place] = [text, new Date().toISOString()];
  keep();
  go(1);
}

// what an answer says of the left photograph; null for nothing
function verdict(pair, text) {
  if (text === "unsure") return null;
  const one = pair.identity === pair.other;
  const why = `${text === "different" ? "another individual than" : "same individual as"} ${pair.right} (${pair.other})`;
  if (text !== "different") return one ? ["keep", "", why] : ["relabel", pair.other, why];
  return one ? ["drop", "", why] : ["keep", "", why];
}

// answers, the earliest first
function inOrder() {
  const ordered = Object.entries(answers).sort((one, other) => (one[1][1] < other[1][1] ? -1 : one[1][1] > other[1][1] ? 1 : one[0] - other[0]));
  return ordered.map(([number, [text, when]]) => [data.pairs[number], text, when]);
}

// names that gave way to another one, each with [that one, when]; and the name that a name ends as
function merged() {
  const gone = new Map();
  const last = (name) => (gone.has(name) ? last(gone.get(name)[0]) : name);
  for (const [pair, text, when] of inOrder()) {
    if (text !== "merge") continue;
    const [from, to] = [last(pair.identity), last(pair.other)];
    if (from !== to) gone.set(from, [to, when]);
  }
  return { gone, last };
}

// one decision for each photograph: an individual that it is of counts more than one that it is not of
function decisions() {
  const found = new Map();
  const clashing = new Set();
  const { gone, last } = merged();
  for (const [pair, text, when] of inOrder()) {
    const said = verdict(pair, text);
    if (said === null) continue;
    const [way, name, why] = said;
    const label = last(name);
    const before = found.get(pair.left);
    if (before && way === "relabel" && before.way === way && before.label !== label) clashing.add(pair.left);
    if (text === "different" && mergeable(pair) && last(pair.identity) === last(pair.other)) clashing.add(pair.left);
    if (before && RANK[before.way] > RANK[way]) continue;
    found.set(pair.left, { key: pair.left, way, label, when, why, sha256: data.photographs[pair.left].sha256 });
  }
  for (const [name, [, when]] of gone) {
    for (const [key, sha256] of data.individuals[name]) {
      const before = found.get(key);
      if (before && before.way !== "keep") continue; // said of this photograph by itself
      const why = `all photographs of ${name} are of ${last(name)}`;
      found.set(key, { key, way: "relabel", label: last(name), when, why, sha256 });
    }
  }
  return { rows: [...found.values()], conflicts: clashing.size };
}

function decisionsCsv() {
  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const who = element("who").value.trim();
  const lines = decisions().rows.map((row) =>
    [row.key, row.way, row.label, who, row.when, row.why, row.sha256].map((text) => quoted(text || "")).join(","),
  );
  return ["key,verdict,label,who,when,why,sha256", ...lines, ""].join("\n");
}

function download() {
  if (!element("who").value.trim()) {
    element("who").focus();
    element("counts").textContent = "Say who decides first.";
    return;
  }
  keep();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([decisionsCsv()], { type: "text/csv" }));
  link.download = "decisions.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}

for (const text of Object.values(KEYS)) element(text).addEventListener("click", () => answer(text));
element("back").addEventListener("click", () => go(-1));
element("next").addEventListener("click", () => go(1));
element("download").addEventListener("click", download);
document.addEventListener("keydown", (event) => {
  if (event.target === element("who") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (KEYS[event.key]) answer(KEYS[event.key]);
  else if (event.key === "ArrowLeft") go(-1);
  else if (event.key === "ArrowRight") go(1);
});
show();
