"""A set of trays read: photographs, insects, labels and taxa, and what was wrong with the outlines."""

import csv
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from instar.errors import InputError
from instar.files import replacing
from instar.progress import progress
from instar.records.annotated import given_split
from instar.records.annotations import GIVEN_SPLITS, Annotation, Annotations, Photograph
from instar.records.gathering import Gathering
from instar.records.trays import folder as trays_folder
from instar.records.trays import labels
from instar.records.trays.coco import Coco, Picture, Store, read_coco
from instar.records.trays.exports import exported, outline_files
from instar.records.trays.folder import COUNTS, PARTITION, SOURCE, TABLE, Folder, Tray, read_folder, windows
from instar.records.trays.outlines import FILLED_TOGETHER, LARGEST
from instar.records.trays.photograph import FAULTS, JOINED, OTHER_CATEGORY, Insects, insects
from instar.records.trays.taxa import BOLD_RANKS, Taxa, named, read_taxa, table, taxon_id
from instar.tables import csv_rows

#: The columns of the table of outlines that were changed or dropped; areas are in pixels.
OUTLINES = ("photo_key", "tile", "id", "category", "changes", "reason", "area_before", "area_after")

UNKNOWN_IMAGE = "unknown image"
LEFT_OUT = "photograph left out: {}"
#: What becomes of labels: those that an insect gets, and the others.
USED = ("labels by the outline's id", "labels by overlap")
LABELS_OF_NO_IMAGE = "labels of images that their file does not list"
LABELS_LEFT_OUT = "labels of photographs without outlines, or left out"
#: Dropped outlines that are shown.
_SHOWN = 3


class Stored:
    """The boxes of a photograph, on disk; they are read anew each time."""

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key

    def __len__(self) -> int:
        return self._store.counts[self._key]

    def __iter__(self) -> Iterator[Annotation]:
        return (Annotation(bbox, more) for bbox, more in self._store.of(self._key))


@dataclass
class Trays:
    """What a set of trays gave.

    Attributes:
        gathering: the photographs.
        annotations: their insects.
        taxonomy: rows of ``tables.TAXONOMY`` for the taxa of labels and barcodes.
        specimens: rows of ``tables.SPECIMENS``.
        barcodes: rows of ``tables.BARCODES``.
        counts: outlines read, taken and dropped, and the changes; labels; what else is worth knowing.
    """

    gathering: Gathering
    annotations: Annotations
    taxonomy: list[dict[str, Any]] = field(default_factory=list)
    specimens: list[dict[str, Any]] = field(default_factory=list)
    barcodes: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)


def read(
    source: Path,
    out_outlines: Path,
    *,
    partition: Path | None,
    licences: list[str] | None,
    category: str,
    categories: list[str],
    min_mask_px: int,
    margin_px: int,
    faults: str,
    work: Path | None = None,
) -> Trays:
    """Read a folder of trays; its layout stands in data/README.md.

    Args:
        source: the folder.
        out_outlines: gets a row for every outline that was changed or dropped.
        partition: table with the columns photo and split; the folder's own ``partition.csv`` goes before it. A
            photograph that it does not list is for training; a table without rows gives no splits. None where the
            splits are made otherwise: then no table is read.
        licences: short names of those allowed; a photograph of which nothing tells the licence is taken.
        category: name of the one class.
        categories: of outlines that are taken; all where there are none.
        min_mask_px: smaller masks are dropped, pixels.
        margin_px: around the insects of a photograph, within which it is searched.
        faults: ``refuse`` a set with outlines that say that a file is wrong, or ``leave_out`` them, counted and told,
            and their photograph where those of a whole sub-image cannot be placed. A photograph of which no outline can
            be used is left out in either case.
        work: folder for temporary files.

    Raises:
        InputError: if the folder or a table in it is damaged, there are two files of one kind, no outline is of the
            wanted categories, or, with ``refuse``, an outline has an unknown category or image, or broken numbers.
    """
    partition = source / PARTITION if partition and (source / PARTITION).is_file() else partition
    listed = list(csv_rows(partition, ("photo", "split"))) if partition else []
    barcodes = list(_barcodes(source / "barcodes.csv"))
    folder = read_folder(source, (sample for sample, _, _ in barcodes))
    samples = len({tray.sample for tray in folder.trays.values()})
    how = ", ".join(f"{name}: {count}" for name, count in sorted(folder.told.items()))
    decides = (
        "metadata.csv decides" if (source / TABLE).is_file() else "a metadata.csv with photo and sample would decide"
    )
    print(f"samples: {samples} of {len(folder.trays)} photographs ({how}); {decides}", file=sys.stderr)
    outlined, labelled = _cocos(source, work)
    taxa = read_taxa(source / "bold.tsv", source / "dyntaxa.csv", [names for _, names, _ in barcodes])
    found = Annotations(category=category)
    reading = _Reading(source, folder, taxa, found, Store(work), categories, min_mask_px, margin_px)
    with replacing(out_outlines) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(OUTLINES)
        if outlined:
            writer.writerows(reading.rows(outlined, labelled))
    reading.check(faults)
    if partition:
        found.given.update(_given(source, partition, listed, folder, found))
    gathering = Gathering(work)
    trays_folder.gather(folder, gathering, licences=licences)
    barcode_rows = _barcode_rows(barcodes, folder)
    carried = reading.carried | {row["taxon_id"] for row in barcode_rows}
    return Trays(
        gathering,
        found,
        taxa.rows(carried),
        [_specimens(tray) for _, tray in sorted(folder.trays.items())],
        barcode_rows,
        _counts(reading, taxa, folder, barcodes),
    )


def _cocos(source: Path, work: Path | None) -> tuple[Coco | None, Coco | None]:
    """The files of outlines and of labels."""
    outlines = outline_files(source)
    labelled = _single(sorted(source.glob("taxa*.json")))
    if labelled and not outlines:
        raise InputError(f"{labelled}: are labels, and there are no outlines; put annots_<date>_coco.json beside it")
    if not outlines:
        print(f"{source}: no outlines in it; a detector that learns needs them", file=sys.stderr)
        return None, None
    path = outlines[0] if len(outlines) == 1 else source
    return read_coco(path, work, exported(source, outlines)), (read_coco(labelled, work) if labelled else None)


def _single(paths: list[Path]) -> Path | None:
    if len(paths) > 1:
        raise InputError(f"{paths[1]}: is there beside {paths[0].name}; keep one of them")
    return paths[0] if paths else None


@dataclass
class _Reading:
    """Photographs as their insects are read, one after the other."""

    source: Path
    folder: Folder
    taxa: Taxa
    found: Annotations
    store: Store
    categories: list[str]
    min_mask_px: int
    margin_px: int
    read: int = 0
    brushed: int = 0
    labels_read: int = 0
    out: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    areas: Counter[str] = field(default_factory=Counter)
    assembled: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    carried: set[str] = field(default_factory=set)
    examples: dict[str, str] = field(default_factory=dict)
    names: Counter[str] = field(default_factory=Counter)
    incomplete: int = 0

    def rows(self, outlined: Coco, labelled: Coco | None) -> Iterator[tuple[Any, ...]]:
        """Read all photographs; gives rows of ``OUTLINES``."""
        self.read, self.brushed = outlined.read, outlined.brushed
        self._drop(UNKNOWN_IMAGE, outlined.without_picture, f"{outlined.path}: {outlined.first_without_picture}")
        called = _by_tray(labelled, self.folder)
        self.labels_read = labelled.read if labelled else 0
        self.assembled[LABELS_OF_NO_IMAGE] += labelled.without_picture if labelled else 0
        pictures = _by_tray(outlined, self.folder)
        taken = set()
        # two names may stand for one photograph
        for tray_name, (name, shown) in progress(pictures.items(), "photographs' outlines"):
            tray = self.folder.trays.get(tray_name)
            why = _unusable(tray, shown)
            if why or tray is None or tray.size is None:
                count = sum(outlined.outlines.counts[one.id] for one in shown)
                self.found.left_out[why or ""] += 1
                told = f"{why}{_sizes(tray, shown)}"
                self._drop(LEFT_OUT.format(why), count, f"{outlined.path}: photograph {name}: {told}")
                continue
            places = self._windows(tray, shown)
            theirs = [(labelled, one) for one in called.get(tray_name, ("", []))[1]] if labelled else []
            one = insects(
                *(outlined, shown, theirs, places, tray.size, self.taxa),
                categories=self.categories,
                min_mask_px=self.min_mask_px,
            )
            if one.unusable:
                self._leave_out(one, one.unusable, tray, outlined.path)
            else:
                taken.add(tray_name)
                self._take(one, tray, outlined.path)
            yield from _rows(one, tray)
        others = [one for name in called.keys() - taken for one in called[name][1]]
        self.assembled[LABELS_LEFT_OUT] += sum(labelled.outlines.counts[one.id] for one in others) if labelled else 0

    def _leave_out(self, one: Insects, why: str, tray: Tray, path: Path) -> None:
        """Drop all outlines of a photograph; those that can be used for its reason, the others for theirs."""
        self.found.left_out[why] += 1
        for outline in one.outlines:
            self.names[outline.name] += 1
            outline.reason = outline.reason or LEFT_OUT.format(why)
            self._drop(outline.reason, 1, f"{path}: {tray.name}: annotation {outline.id}: {outline.reason}")

    def _windows(self, tray: Tray, shown: list[Picture]) -> np.ndarray:
        assert tray.size is not None
        if shown[0].tile is None:
            return np.array([[0, 0, *tray.size]], np.int64)
        places = windows(self.source, tray)
        self.incomplete += len({one.tile for one in shown}) < len(places)
        return places

    def _take(self, one: Insects, tray: Tray, path: Path) -> None:
        assert tray.size is not None
        tray.region = _region(one, tray.size, self.margin_px)
        for annotation in one.annotations(*tray.size):
            self.store.add(tray.key, (annotation.bbox, annotation.more))
        self.found.photographs[tray.key] = Photograph(*tray.size, Stored(self.store, tray.key))
        self._count(one, path, tray)

    def _count(self, one: Insects, path: Path, tray: Tray) -> None:
        self.out += len(one.masks)
        self.assembled.update(one.counts)
        self.labels.update(labels.counts(one.labels))
        for label in one.labels:
            self.carried.update([*([label.high] if label.high else []), *label.low])
            self.unknown.update(label.unknown)
        for outline in one.outlines:
            self.names[outline.name] += 1
            if outline.reason:
                self._drop(outline.reason, 1, f"{path}: {tray.name}: annotation {outline.id}: {outline.reason}")
            elif outline.cleaned.changes and outline.raw_area is not None:
                self.changes.update(outline.cleaned.changes)
                self.areas["before_px"] += outline.raw_area
                self.areas["after_px"] += outline.area
                self.areas["of"] += 1

        for _, before, after in one.filled:
            self.changes[FILLED_TOGETHER] += 1
            self.areas.update(before_px=before, after_px=after)

    def _drop(self, reason: str, count: int, example: str) -> None:
        if count:
            self.dropped[reason] += count
            self.examples.setdefault(reason, example)

    def check(self, faults: str) -> None:
        """Tell what was dropped; refuse what says that a file is wrong.

        Raises:
            InputError: if there is such a fault and faults are refused, or nothing is left of many outlines.
        """
        wrong = {name: self.dropped[name] for name in (UNKNOWN_IMAGE, *FAULTS) if self.dropped[name]}
        if wrong and faults == "refuse":
            name = next(iter(wrong))
            more = f" (and {sum(wrong.values()) - 1} more faults)" if sum(wrong.values()) > 1 else ""
            raise InputError(f"{self.examples[name]}{more}; mend it, or set records.annotation_faults=leave_out")
        if self.names and self.categories and not self.names.keys() & set(self.categories):
            told = ", ".join(f"{name}: {count}" for name, count in self.names.most_common(5))
            raise InputError(
                f"{self.source}: no outline of the categories {', '.join(self.categories)} ({told}); set "
                "records.outline_categories to those that are animals, or to [] for all"
            )
        for name, count in sorted(self.dropped.items()):
            if not name.startswith(OTHER_CATEGORY):
                print(f"outlines dropped: {name}: {count}, such as {self.examples[name]}", file=sys.stderr)
        if self.brushed:
            print(f"masks called crowds, as CVAT calls all, taken as one animal each: {self.brushed}", file=sys.stderr)
        if self.unknown:
            shown = ", ".join(f"{name} ({count})" for name, count in self.unknown.most_common(_SHOWN))
            print(f"labels that the taxonomy does not have: {self.unknown.total()}, such as {shown}", file=sys.stderr)
        if self.read != self.out + self.dropped.total() + self.assembled[JOINED]:
            raise RuntimeError(f"trays: {self.read} outlines read, {self.out} insects, {self.dropped} dropped")
        if self.labels_read != self.labels_used + self.labels_dropped.total():
            raise RuntimeError(f"trays: {self.labels_read} labels read, but {self.assembled}")

    @property
    def labels_used(self) -> int:
        return sum(self.assembled[name] for name in USED)

    @property
    def labels_dropped(self) -> Counter[str]:
        return +Counter(
            {name: n for name, n in self.assembled.items() if name.startswith("labels") and name not in USED}
        )


def _rows(one: Insects, tray: Tray) -> Iterator[tuple[Any, ...]]:
    """Rows of ``OUTLINES``."""
    for outline in one.outlines:
        if outline.cleaned.changes or (outline.reason and not outline.reason.startswith(OTHER_CATEGORY)):
            changes = "; ".join(outline.cleaned.changes)
            before = outline.area if outline.raw_area is None else outline.raw_area
            after = 0 if outline.reason else outline.area
            yield tray.key, outline.tile, outline.id, outline.name, changes, outline.reason or "", before, after
    for parts, before, after in one.filled:
        tiles, ids = ("; ".join(str(getattr(part, name)) for part in parts) for name in ("tile", "id"))
        yield tray.key, tiles, ids, parts[0].name, FILLED_TOGETHER, "", before, after


def _by_tray(coco: Coco | None, folder: Folder) -> dict[str, tuple[str, list[Picture]]]:
    """Pictures by the photograph's own name, with the name that the file gives it."""
    found: dict[str, tuple[str, list[Picture]]] = {}
    named = coco.photographs if coco else {}
    elsewhere = not any(folder.found_by(name, folder=one.folder) for name, shown in named.items() for one in shown)
    for name, pictures in named.items():
        for one in pictures:
            tray = folder.found_by(name, folder=one.folder, elsewhere=elsewhere)
            found.setdefault(tray.name if tray else name, (name, []))[1].append(one)
    return found


def _unusable(tray: Tray | None, shown: list[Picture]) -> str | None:
    """Why a photograph's outlines cannot be used; None where they can."""
    if tray is None:
        return "no such photograph"
    if tray.size is None:
        return "no readable photograph"
    if len({one.tile is None for one in shown}) > 1 or (shown[0].tile is None and len(shown) > 1):
        return "annotated twice"
    if shown[0].tile is None and shown[0].size not in (None, tray.size):
        return "annotated in another size"
    return None


def _sizes(tray: Tray | None, shown: list[Picture]) -> str:
    """Both sizes where they differ."""
    if tray is None or tray.size is None or shown[0].size in (None, tray.size):
        return ""
    (width, height), (width_px, height_px) = shown[0].size or (0, 0), tray.size
    return f", {width}×{height}, and has upright {width_px}×{height_px} pixels; annotate it as it is shown"


def _region(one: Insects, size: tuple[int, int], margin_px: int) -> list[int] | None:
    """The box around all insects with the margin, clipped; None, the whole photograph, without any."""
    if not len(one.masks):
        return None
    boxes = one.masks.boxes()
    low, high = boxes[:, :2].min(axis=0) - margin_px, boxes[:, 2:].max(axis=0) + margin_px
    return [int(max(low[0], 0)), int(max(low[1], 0)), int(min(high[0], size[0])), int(min(high[1], size[1]))]


def _given(
    source: Path, path: Path, listed: list[tuple[int, dict[str, str]]], folder: Folder, found: Annotations
) -> dict[str, str]:
    """The split of every annotated photograph that a table gives; train for those that it does not list. Where it
    lists none of them, their folders train, valid and test do."""
    splits: dict[str, str] = {}
    missing = []
    for line, row in listed:
        split = GIVEN_SPLITS.get(row["split"].lower())
        if split is None:
            raise InputError(f"{path}: line {line}: split {row['split']!r} is none of train, validation, test; mend it")
        trays = _meant(folder, row["photo"])
        missing += [] if trays else [row["photo"]]
        for tray in trays:
            if splits.setdefault(tray.key, split) != split:
                raise InputError(f"{path}: line {line}: photo {row['photo']!r} is in two splits; mend one")
    if not splits:
        splits = {tray.key: split for tray in folder.trays.values() if (split := given_split(tray.url))}
        missing = [] if splits else missing
    if missing:
        print(f"{path}: {len(missing)} of its photographs are not there, such as {missing[0]}", file=sys.stderr)
    if missing and not splits:
        raise InputError(
            f"{path}: none of its photographs is in {source}, such as {missing[0]}; give the set's own "
            "as records.partition, or set records.annotation_split=observation"
        )
    given = {key: splits.get(key, "train") for key in found.photographs} if splits else {}
    if parted := _parted(folder, given):
        print(f"{path}: photographs of one sample are in several splits: {', '.join(parted)}", file=sys.stderr)
    return given


def _parted(folder: Folder, given: dict[str, str]) -> list[str]:
    """The samples whose photographs are in more than one split."""
    splits: dict[str, set[str]] = defaultdict(set)
    for tray in folder.trays.values():
        if tray.key in given:
            splits[tray.sample].add(given[tray.key])
    return sorted(sample for sample, several in splits.items() if len(several) > 1)


def _meant(folder: Folder, name: str) -> list[Tray]:
    """The photograph of a name, or those of the sample that is called so."""
    one = folder.find(name)
    return [one] if one else [tray for tray in folder.trays.values() if tray.sample == name]


def _specimens(tray: Tray) -> dict[str, Any]:
    counts = {name: int(tray.said[name]) if tray.said.get(name) else None for name in COUNTS}
    return {"photo_key": tray.key, "sample": tray.sample, **counts}


def _barcodes(path: Path) -> Iterator[tuple[str, dict[str, str], int | None]]:
    """Sample, names from kingdom to species, and reads of every barcoded taxon."""
    if not path.is_file():
        return
    columns = ("sample", *BOLD_RANKS, "reads")
    for row in table(path, columns, need=("sample",)):
        reads = row.get("reads") or ""
        if reads and not reads.isdecimal():
            raise InputError(f"{path}: sample {row['sample']!r}: reads = {reads!r} is no whole number; mend it")
        yield row["sample"], named(row, BOLD_RANKS), int(reads) if reads else None


def _barcode_rows(barcodes: list[tuple[str, dict[str, str], int | None]], folder: Folder) -> list[dict[str, Any]]:
    """Rows of ``tables.BARCODES``, each taxon at its lowest named rank, of the samples that a photograph shows."""
    samples = {tray.sample for tray in folder.trays.values()}
    found: dict[tuple[str, str], int | None] = {}
    for sample, names, reads in barcodes:
        lowest = next((rank for rank in reversed(BOLD_RANKS) if rank in names), None)
        if sample in samples and lowest:
            key = sample, taxon_id(lowest, names[lowest])
            before = found.get(key)
            found[key] = (before or 0) + (reads or 0) if before is not None or reads is not None else None
    return [
        {"observation_id": f"{SOURCE}-{sample}", "sample": sample, "taxon_id": one, "reads": found[sample, one]}
        for sample, one in sorted(found)
    ]


def _counts(
    reading: _Reading, taxa: Taxa, folder: Folder, barcodes: list[tuple[str, dict[str, str], int | None]]
) -> dict[str, Any]:
    samples = {tray.sample for tray in folder.trays.values()}
    annotated = reading.found.photographs
    return {
        "outlines": {
            "in": reading.read,
            "out": reading.out,
            "joined": reading.assembled[JOINED],
            "crowds_taken_as_animals": reading.brushed,
            "dropped": dict(sorted(reading.dropped.items())),
            "changed": {**dict(sorted(reading.changes.items())), "outlines": reading.areas["of"]},
            "largest_part_taken": reading.changes[LARGEST],
            "changed_area_px": {"before": reading.areas["before_px"], "after": reading.areas["after_px"]},
            "assembled": {name: n for name, n in sorted(reading.assembled.items()) if not name.startswith("labels")},
        },
        "labels": {
            "in": reading.labels_read,
            "out": reading.labels_used,
            "dropped": dict(sorted(reading.labels_dropped.items())),
            **{name: reading.assembled[name] for name in USED},
            **dict(sorted(reading.labels.items())),
            "unknown_names": dict(sorted(reading.unknown.items())),
        },
        "taxonomy": dict(sorted(taxa.counts.items())),
        "samples": {
            "samples": len(samples),
            "photographs": dict(sorted(folder.told.items())),
            "with_barcodes": len(samples & {sample for sample, _, _ in barcodes}),
            "barcoded_without_photograph": len({sample for sample, _, _ in barcodes} - samples),
            "in_two_splits": len(_parted(folder, reading.found.given)),
        },
        "photographs": {
            "annotated": len(annotated),
            "not_annotated": len(folder.trays) - len(annotated),
            "not_in_metadata": folder.untold,
            "with_sub_images_missing": reading.incomplete,
        },
    }
