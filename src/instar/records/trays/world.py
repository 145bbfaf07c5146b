"""Drawn trays of insects in the files of a bulk-sample study: photographs, sub-images, annotations and registers."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from instar.files import replacing
from instar.masks import Masks
from instar.progress import progress
from instar.records.trays import annotators, registers
from instar.records.trays.annotators import Outline
from instar.records.trays.registers import Species
from instar.records.trays.spec import Form, Trays, form_of, load_trays
from instar.records.trays.tray import Animal, draw_tray
from instar.records.world import drawing_pool
from instar.records.world_plan import chosen, stable_int

#: In the names of the annotation files.
STEP_1, STEP_2 = "annots_20260307_coco.json", "taxa_20260307_coco.json"
#: Letters of sample names; none that is taken for another.
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


@dataclass(frozen=True)
class Plan:
    """One photograph before it is drawn."""

    name: str
    sample: str
    seed: int
    species: list[int]  # of each insect
    lengths_px: list[float]  # of each insect's body
    annotated: bool


@dataclass(frozen=True)
class Drawn:
    """What is to be seen on one photograph."""

    insects: Masks  # in the order of the plan; empty where nothing is seen of one
    debris: Masks  # what of it is annotated
    categories: list[str]  # of the debris


def draw_trays(source: Path, out: Path, *, seed: int, processes: int | None = None) -> None:
    """Draw photographs of trays and write them as a bulk-sample study comes, with the truth beside it.

    ``truth/<name>.json`` holds every insect of which something is seen, with its taxon and its exact mask as COCO RLE,
    and ``truth/faults.json`` the ids of the faulty annotations. A sample with two photographs lay on two trays: each
    photograph has its own insects and its own count by hand.

    Args:
        source: description of the trays, YAML; see ``trays.spec``.
        out: folder to write, replaced as a whole.
        seed: of every random choice; equal description and seed give equal bytes.
        processes: to draw with; as many as there are cores if None. The result does not depend on it.

    Raises:
        InputError: if the description is missing or wrong.
    """
    trays = load_trays(source)
    species = registers.all_species(trays)
    plans = plan_trays(trays, species, seed)
    with replacing(out) as folder:
        tiles = annotators.sub_image_rows(trays.width, trays.height, trays.sub_images, trays.sub_image_overlap)
        drawn = _draw_all(trays, species, plans, folder, tiles, processes or os.cpu_count() or 1)
        faults = _write_annotations(folder, trays, species, plans, drawn, tiles, seed)
        _write_truth(folder / "truth", trays, species, plans, drawn, faults)
        _write_registers(folder, trays, species, plans, seed)


def plan_trays(trays: Trays, species: Sequence[Species], seed: int) -> list[Plan]:
    """Which insects lie on which photograph, by the samples' names."""
    singles = trays.photographs - 2 * trays.doubles
    samples = _sample_names(trays.doubles + singles, seed)
    names = [(sample, n) for i, sample in enumerate(samples) for n in range(1, 3 if i < trays.doubles else 2)]
    unannotated = chosen(names[2 * trays.doubles :] or names, trays.unannotated, _photo, "unannotated", seed)
    return sorted(
        (_plan(trays, species, *name, _photo(name) not in unannotated, seed) for name in names), key=lambda p: p.name
    )


def _photo(name: tuple[str, int]) -> str:
    return f"{name[0]}_{name[1]}"


def _sample_names(n: int, seed: int) -> list[str]:
    names: dict[str, None] = {}
    number = 0
    while len(names) < n:
        bits, number = stable_int("sample", seed, number), number + 1
        names["G" + "".join(LETTERS[(bits >> 5 * i) % 32 % len(LETTERS)] for i in range(5))] = None
    return list(names)


def _plan(trays: Trays, species: Sequence[Species], sample: str, number: int, annotated: bool, seed: int) -> Plan:
    name = _photo((sample, number))
    common = registers.community(trays, species, np.random.default_rng(stable_int("community", sample, seed)))
    rng = np.random.default_rng(stable_int("tray", name, seed))
    low, high = (np.log(count + 1) for count in trays.insects)
    n = round(float(np.exp(rng.uniform(low, high)) - 1))
    length = trays.length_px
    lengths = np.clip(rng.lognormal(np.log(length.median), length.spread, n), length.least, length.most)
    picks = registers.dealt(lengths, length.median, species, common, rng)
    return Plan(name, sample, stable_int("drawing", name, seed), picks, lengths.tolist(), annotated)


# photographs


def _draw_all(
    trays: Trays, species: Sequence[Species], plans: list[Plan], folder: Path, tiles: np.ndarray, processes: int
) -> list[Drawn]:
    (folder / "edited").mkdir(parents=True)
    forms = [form_of(one.order, one.family) for one in species]
    jobs = [(trays, _animals(forms, plan), plan, folder, tiles) for plan in plans]
    if min(processes, len(plans)) <= 1:
        return [_draw(job) for job in progress(jobs, "trays drawn", len(jobs))]
    with drawing_pool(processes) as pool:
        return list(progress(pool.map(_draw, jobs), "trays drawn", len(jobs)))


def _animals(forms: list[Form], plan: Plan) -> list[Animal]:
    return [Animal(forms[pick], length) for pick, length in zip(plan.species, plan.lengths_px, strict=True)]


def _draw(job: tuple[Trays, list[Animal], Plan, Path, np.ndarray]) -> Drawn:
    """Draw one photograph and write it and its sub-images."""
    trays, animals, plan, folder, tiles = job
    rng = np.random.default_rng(plan.seed)
    photograph = draw_tray(
        animals,
        width=trays.width,
        height=trays.height,
        median_px=trays.length_px.median,
        shares=trays.shares,
        label=plan.sample,
        rng=rng,
    )
    _write_jpeg(folder / "edited" / f"{plan.name}.jpg", photograph.pixels, trays.quality)
    below = folder / "annotation_tiles" / plan.name
    below.mkdir(parents=True)
    np.save(below / f"{plan.name}_tile_metadata.npy", tiles)
    for i, (top, bottom, left, right) in enumerate(tiles.tolist()):
        _write_jpeg(below / f"{plan.name}_tile_{i}.jpg", photograph.pixels[top:bottom, left:right], trays.quality)
    seen = photograph.debris.areas() > 0
    noted = np.flatnonzero(seen & (rng.random(len(seen)) < trays.shares.debris_annotated))
    return Drawn(photograph.insects, photograph.debris.take(noted), [photograph.categories[i] for i in noted])


def _write_jpeg(path: Path, pixels: np.ndarray, quality: int) -> None:
    data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    path.write_bytes(data.tobytes())


# annotations


def _write_annotations(
    folder: Path,
    trays: Trays,
    species: Sequence[Species],
    plans: list[Plan],
    drawn: list[Drawn],
    tiles: np.ndarray,
    seed: int,
) -> dict[str, list[int]]:
    """Write the outlines and the taxon labels; the ids of the faulty outlines by kind of fault."""
    annotated = [plan for plan in plans if plan.annotated]
    paths = [f"batch-1/{plan.name}/{plan.name}_tile_{i}.jpg" for plan in annotated for i in range(len(tiles))]
    images = [{"id": number, "toras_path": path} for number, path in enumerate(paths, start=1)]
    ids = {path.rsplit("/", 1)[1]: number for number, path in enumerate(paths, start=1)}
    outlines = [
        outline
        for plan, picture in zip(plans, drawn, strict=True)
        if plan.annotated
        for outline in annotators.outlined(plan.name, picture.insects, picture.debris, picture.categories, tiles)
    ]
    outlines, faults = annotators.with_slips(outlines, trays.shares, seed)
    image_ids = [ids[f"{one.photograph}_tile_{one.tile}.jpg"] for one in outlines]
    numbered = list(enumerate(zip(image_ids, outlines, strict=True), start=1))
    categories = [{"id": number, "name": name} for name, number in annotators.CATEGORIES.items()]
    step_1 = [annotators.coco_annotation(number, image, one) for number, (image, one) in numbered]
    _write_coco(folder / STEP_1, trays, images, step_1, categories)
    labels = _labels(trays, species, plans, drawn, seed)
    step_2 = _step_2(numbered, labels, trays, len(outlines), seed)
    _write_coco(folder / STEP_2, trays, images, step_2, [])
    return {kind: [place + 1 for place in places] for kind, places in faults.items()}


def _write_coco(
    path: Path,
    trays: Trays,
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    categories: list[dict[str, Any]],
) -> None:
    """COCO without indents, which would put every coordinate on a line of its own."""
    info = {"description": f"Drawn trays {trays.name}", "version": "1.0"}
    content = {"info": info, "images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")


def _labels(
    trays: Trays, species: Sequence[Species], plans: list[Plan], drawn: list[Drawn], seed: int
) -> dict[tuple[str, str], str]:
    """Photograph and subject to what experts call it."""
    labels = {}
    for plan, picture in zip(plans, drawn, strict=True):
        for i, area in enumerate(picture.insects.areas().tolist()):
            rng = np.random.default_rng(stable_int("label", plan.name, i, seed))
            if area and rng.random() < trays.shares.taxa_labelled:
                one, size = species[plan.species[i]], area / trays.length_px.median**2
                names = registers.taxon_labels(one, size, species, wrong=trays.shares.wrong_labels, rng=rng)
                labels[plan.name, f"insect-{i}"] = "; ".join(names)
    return labels


def _step_2(
    numbered: list[tuple[int, tuple[int, Outline]]],
    labels: dict[tuple[str, str], str],
    trays: Trays,
    last: int,
    seed: int,
) -> list[dict[str, Any]]:
    """The labelled outlines: most with the id of step 1, some drawn anew with another."""
    annotations = []
    for number, (image, outline) in numbered:
        name = labels.get((outline.photograph, outline.subject))
        if name is None:
            continue
        rng = np.random.default_rng(stable_int("step 2", outline.key, seed))
        anew = rng.random() < trays.shares.other_outline
        kept = annotators.redrawn(outline) if anew else outline
        entry = annotators.coco_annotation(last + number if anew else number, image, kept)
        del entry["category_id"]
        annotations.append(entry | {"name": name})
    return annotations


# truth and registers


def _write_truth(
    folder: Path,
    trays: Trays,
    species: Sequence[Species],
    plans: list[Plan],
    drawn: list[Drawn],
    faults: dict[str, list[int]],
) -> None:
    folder.mkdir()
    for plan, picture in zip(plans, drawn, strict=True):
        counts, areas = picture.insects.rle(trays.height, trays.width), picture.insects.areas().tolist()
        insects = [
            {
                "id": i,
                **species[plan.species[i]].lineage(),
                "length_px": round(plan.lengths_px[i], 2),
                "area": areas[i],
                "segmentation": {"size": [trays.height, trays.width], "counts": counts[i].decode("ascii")},
            }
            for i in range(len(areas))
            if areas[i]
        ]
        one = {"photo": plan.name, "sample": plan.sample, "drawn": len(areas), "insects": insects}
        (folder / f"{plan.name}.json").write_text(json.dumps(one) + "\n", encoding="utf-8")
    (folder / "faults.json").write_text(json.dumps(faults) + "\n", encoding="utf-8")


def _write_registers(folder: Path, trays: Trays, species: Sequence[Species], plans: list[Plan], seed: int) -> None:
    rows = [_metadata_row(trays, species, plan, seed) for plan in plans]
    registers.write_delimited(folder / "metadata.csv", rows, list(rows[0]) if rows else ("photo",))
    split = _partition(trays, plans, seed)
    given = [{"photo": plan.name, "split": split[plan.sample]} for plan in plans if plan.annotated]
    registers.write_delimited(folder / "partition.csv", given, ("photo", "split"))
    registers.write_bold(folder / "bold.tsv", species)
    registers.write_dyntaxa(folder / "dyntaxa.csv", species)
    found: dict[str, set[int]] = {}
    for plan in plans:
        found.setdefault(plan.sample, set()).update(plan.species)
    barcoded = [
        row
        for sample in sorted(found)
        for row in registers.barcodes(
            sample, species, found[sample], np.random.default_rng(stable_int("barcodes", sample, seed))
        )
    ]
    registers.write_delimited(folder / "barcodes.csv", barcoded, ("sample", *registers.BOLD_RANKS, "reads"))


def _metadata_row(trays: Trays, species: Sequence[Species], plan: Plan, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(stable_int("metadata", plan.sample, seed))
    place = {"latitude": round(rng.uniform(55.5, 68.0), 4), "longitude": round(rng.uniform(12.5, 22.5), 4)}
    collected = f"2019-{rng.integers(5, 10):02d}-{rng.integers(1, 29):02d}"
    rng = np.random.default_rng(stable_int("counted", plan.name, seed))
    kept = rng.random(len(plan.species)) >= trays.shares.lost
    narrow = np.array([species[pick].order.within in registers.COUNTED_CLASSES for pick in plan.species], bool)
    counted = rng.random() < trays.shares.hand_counted
    return {
        "photo": plan.name,
        "sample": plan.sample,
        "specimens": int(kept.sum()) if counted else "",
        **place,
        "collected": collected,
        "trap": "Malaise",
        "licence": "CC-BY-4.0",
        "rights_holder": "The drawn trays",
        "specimens_insecta_arachnida": int((kept & narrow).sum()) if counted else "",
    }


def _partition(trays: Trays, plans: list[Plan], seed: int) -> dict[str, str]:
    """Sample to split: exact numbers of photographs, as far as samples with two of them allow it."""
    sizes: dict[str, int] = {}
    for plan in plans:
        if plan.annotated:
            sizes[plan.sample] = sizes.get(plan.sample, 0) + 1
    split = dict.fromkeys(sizes, "train")
    room = {"test": trays.given.test, "validation": trays.given.validation}
    for sample in sorted(sizes, key=lambda one: stable_int("partition", one, seed)):
        for part, left in room.items():
            if sizes[sample] <= left:
                split[sample], room[part] = part, left - sizes[sample]
                break
    return split
