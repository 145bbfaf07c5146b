"""The stage ``records``: the sources become one row per photograph, a taxonomy and annotated boxes."""

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instar.errors import InputError
from instar.files import replacing, sha256_of, write_csv, write_json
from instar.records import annotated, folder, gbif, gbif_search, inaturalist, inaturalist_api
from instar.records.annotations import (
    SPLITS,
    Annotations,
    clean_outlines,
    coco_keys,
    read_coco,
    split_by_observation,
    split_by_photograph,
    split_by_time,
    write_coco,
)
from instar.records.filters import BEYOND, Extent, Maximum, drawn_order, parted
from instar.records.gathering import Gathering
from instar.records.hashes import Distinct
from instar.records.individuals.read import read as read_individuals
from instar.records.names import FILE as BACKBONE
from instar.records.names import Names, read_backbone
from instar.records.spill import Sorter
from instar.records.taxonomy import taxonomy_rows
from instar.records.trays.read import OUTLINES
from instar.records.trays.read import read as read_trays
from instar.shards import shard_of
from instar.tables import (
    BARCODES,
    INDIVIDUALS,
    RECORDS,
    RECORDS_DROPPED,
    SPECIMENS,
    TAXONOMY,
    write_stream,
    write_table,
)

_NO_OBSERVATIONS = pa.schema([(name, pa.string()) for name in gbif.INATURALIST.names]).empty_table()

#: In the study's copy of the source: names and hashes of the files that were read.
MANIFEST = "manifest.csv"

#: The order of records.parquet; the observation and the address decide between two rows of one photograph.
_ORDER = ["shard", "key", "observation_id", "url"]

#: The columns that the annotations, their checks and their split go by.
_ANNOTATED = ["key", "url", "sha256", "observation_id", "observed_at", "region"]

_INATURALIST = r"https?://(?:inaturalist-open-data\.s3\.amazonaws\.com|static\.inaturalist\.org)"


def records(
    source: Path,
    out_source: Path,
    out_records: Path,
    out_dropped: Path,
    out_taxonomy: Path,
    out_annotations: Path,
    out_metrics: Path,
    out_barcodes: Path,
    out_specimens: Path,
    out_outlines: Path,
    out_individuals: Path,
    *,
    partition: Path,
    seed: int,
    shards: list[str],
    kind: str,
    taxon: str,
    licences: list[str],
    quality_grades: list[str],
    photo_size: str,
    bbox: list[float],
    observed_from: str,
    observed_to: str,
    max_per_species: int,
    name_confidence: int,
    annotation_split: str,
    annotation_faults: str,
    annotation_validation_share: float,
    annotation_test_share: float,
    annotation_gap_s: float,
    outline_categories: list[str],
    min_mask_px: int,
    tray_margin_px: int,
) -> None:
    """Read the sources: one row per photograph, the taxa they carry, and the annotated boxes split in three.

    Photographs of other taxa are counted in the metrics and not listed; every other dropped one is a row with its
    reason. A photograph that is listed twice counts once, under the first of its observations. One that GBIF took over
    from iNaturalist counts as iNaturalist's where that photograph is in the iNaturalist tables.

    Memory does not grow with the tables: what is taken lies in temporary files beside ``out_records``, which have no
    name and vanish with the process, and is sorted and written a part at a time.

    Args:
        source: kind world: the description of a drawn world. kind tables: a folder with ``inaturalist-open-data``,
            ``inaturalist-api``, Darwin Core Archives, ``gbif-search``, ``backbone.jsonl`` and ``annotations.json``,
            each of them where there is such a thing. kind folder: a folder with ``images`` and, where there are such,
            ``table.csv``, ``backbone.jsonl`` and annotations. kind trays: a folder of trays, or a description that one
            is drawn from. kind individuals: a folder with ``metadata.csv`` or one folder per individual below
            ``images``, and annotations as of kind folder, or a description that one is drawn from.
        out_source: folder; gets the drawn world, or the names and hashes of the source's files.
        out_records: gets the photographs that are taken, ordered by shard and key.
        out_dropped: gets the dropped photographs and the reasons.
        out_taxonomy: gets the taxa of the photographs and their ancestors.
        out_annotations: gets COCO JSON; every image has a ``split``.
        out_metrics: gets counts.
        out_barcodes: gets the taxa that barcoding found in each sample of trays.
        out_specimens: gets the sample of each tray and how many specimens were sorted by hand.
        out_outlines: gets a row for every outline of trays that was changed or dropped.
        out_individuals: gets a row for every taken photograph of an individual, in the source's order.
        partition: table of the splits of trays' photographs, for ``given``; a header alone for none.
        seed: of the drawn world and of the split by observation.
        shards: names of the shards, one of which each photograph belongs to.
        kind: world, tables, folder, trays or individuals.
        taxon: name of the taxon whose descendants are taken; empty for all.
        licences: licences whose photographs are taken; one's own photographs without any are taken.
        quality_grades: iNaturalist's grades that are taken.
        photo_size: of iNaturalist's photographs: original (longer side up to 2048 px), large (1024) or medium (500).
        bbox: west, south, east, north in degrees; west above east crosses the antimeridian; empty for the whole world.
            With a box, a photograph without coordinates is dropped.
        observed_from: the first day in UTC, ISO 8601; empty for no limit. With a limit, a photograph without a date is
            dropped.
        observed_to: the last day, likewise.
        max_per_species: photographs kept of a species, and of a genus for those that are named to genus only; 0 for
            all. The seed and a hash put the observations in order and they are taken whole, the last one as far as the
            number goes.
        name_confidence: of an answer in the source's ``backbone.jsonl``, percent; one with less places no name.
        annotation_split: observation, photograph, time_block, or given for the set's own.
        annotation_faults: refuse a set of one's own with a wrong label or outline, or leave_out its photograph; of
            trays the wrong outline, and the photograph only where a whole sub-image is lost or no outline can be used.
        annotation_validation_share: of the annotated photographs, for validation.
        annotation_test_share: of the annotated photographs, held out for the figures.
        annotation_gap_s: time_block: seconds left out at the end of a block.
        outline_categories: of trays' outlines, those that are animals; all where there are none.
        min_mask_px: smaller masks of trays are dropped, pixels.
        tray_margin_px: around the animals of a tray, within which it is searched, pixels.

    Raises:
        InputError: if the source lacks something or is damaged, or no photograph passes the filters.
    """
    extent = Extent(bbox, observed_from, observed_to)
    tables = _prepare(source, out_source, kind=kind, seed=seed)
    work = out_records.parent
    work.mkdir(parents=True, exist_ok=True)
    asked = _asked(tables, kind=kind)
    names = Names(read_backbone(tables / BACKBONE), confidence=name_confidence)
    chosen = {"taxon": taxon, "licences": licences, "names": names, "work": work}
    trays = individuals = None
    if kind == "individuals":
        listed = out_source / MANIFEST  # where the source was not drawn
        individuals = read_individuals(tables, taxon=taxon, licences=licences, work=work, manifest=listed)
        gatherings = [individuals.gathering]
    elif kind == "trays":
        trays = read_trays(
            tables,
            out_outlines,
            partition=partition if annotation_split == "given" else None,
            licences=licences,
            category=taxon or "animal",
            categories=outline_categories,
            min_mask_px=min_mask_px,
            margin_px=tray_margin_px,
            faults=annotation_faults,
            work=work,
        )
        gatherings = [trays.gathering]
    else:
        gatherings = _gather(tables, kind=kind, quality_grades=quality_grades, chosen=chosen)
    flow = _Flow(Sorter(RECORDS_DROPPED, RECORDS_DROPPED.names, together=3, folder=work))
    within = (_of_size(rows, photo_size) for rows in _within(gatherings, extent, flow))
    found = _once(_by_shard(within, shards, work), flow)
    if max_per_species:
        found = _by_shard(_limited(found, max_per_species, seed, flow, work), shards, work)
    write_stream(out_records, _taken(found, asked, flow, source), RECORDS)
    write_stream(out_dropped, flow.dropped, RECORDS_DROPPED)
    asked_for = pa.concat_tables([RECORDS.empty_table().select(_ANNOTATED), *flow.asked_for])
    if trays:
        annotations = _among(trays.annotations, asked_for)
    else:
        annotations = _annotations(tables, asked_for, kind=kind, category=taxon or "animal", faults=annotation_faults)
    outlines = None if trays else clean_outlines(annotations, faults=annotation_faults)
    splits = _splits(
        annotations,
        asked_for,
        by=annotation_split,
        shares={"validation_share": annotation_validation_share, "test_share": annotation_test_share},
        gap_s=annotation_gap_s,
        seed=seed,
    )
    _check_annotated(annotations, splits, by=annotation_split)
    _tell_empty(splits)
    taxa = trays.taxonomy if trays else taxonomy_rows([one.lineages for one in gatherings], sorted(flow.taxa))
    write_table(out_taxonomy, taxa, TAXONOMY)
    write_coco(out_annotations, annotations, splits)
    write_table(out_barcodes, trays.barcodes if trays else [], BARCODES)
    if not trays:
        write_csv(out_outlines, OUTLINES, [])
    write_csv(out_specimens, SPECIMENS, [row.values() for row in trays.specimens] if trays else [])
    taken = set(asked_for["key"].to_pylist()) if individuals else set()
    known = [row for row in individuals.rows if row["photo_key"] in taken] if individuals else []
    write_table(out_individuals, known, INDIVIDUALS)
    checks = {"annotation_checks": _annotation_checks(annotations, asked_for)}
    kinds = (("trays", trays), ("individuals", individuals))
    told = {name: one.counts for name, one in kinds if one} | ({} if trays else {"outlines": outlines})
    write_json(out_metrics, {**_metrics(flow, gatherings, annotations, splits), **checks, **told})


@dataclass
class _Flow:
    """What is counted while the photographs pass."""

    dropped: Sorter
    read: int = 0
    out: int = 0
    renamed: int = 0
    with_coordinates: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    taxa: set[str] = field(default_factory=set)
    observations: Distinct = field(default_factory=Distinct)
    observers: Distinct = field(default_factory=Distinct)
    asked_for: list[pa.Table] = field(default_factory=list)

    def drop(self, rows: pa.Table, reasons: str | pa.Array | pa.ChunkedArray) -> None:
        """Drop photographs for one reason, or each for its own."""
        if isinstance(reasons, str):
            reasons = pa.array([reasons] * rows.num_rows, pa.string())
        dropped = rows.select(["source", "photo_id"]).append_column("reason", reasons)
        self.reasons.update(_counts(dropped, "reason"))
        self.dropped.add(dropped)

    def take(self, rows: pa.Table) -> None:
        """Count photographs that are taken."""
        self.out += rows.num_rows
        self.with_coordinates += rows.num_rows - rows["latitude"].null_count
        self.sources.update(_counts(rows, "source"))
        self.licences.update(_counts(rows, "licence"))
        self.taxa.update(pc.unique(rows["taxon_id"].drop_null()).to_pylist())
        self.observations.add(rows["observation_id"])
        self.observers.add(rows["observer_id"])


def _prepare(source: Path, out_source: Path, *, kind: str, seed: int) -> Path:
    """Draw the world, or list the files that were read; returns the folder that holds the tables."""
    if source.resolve().is_relative_to(out_source.resolve()):
        raise InputError(f"{source}: lies in the output {out_source}, which is replaced; move the source elsewhere")
    if out_source.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{source}: is or holds the output {out_source}; give the source a folder of its own")
    if kind == "trays" and source.is_file():
        from instar.records.trays.world import draw_trays  # only here, since it loads the drawing

        draw_trays(source, out_source, seed=seed)
        return out_source
    if kind == "individuals" and source.is_file():
        from instar.records.individuals.world import draw_individuals  # only here, since it loads the drawing

        draw_individuals(source, out_source, seed=seed)
        return out_source
    if kind == "world":
        from instar.records.world import draw_world  # only here, since it loads the drawing

        draw_world(source, out_source, seed=seed)
        return out_source
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; set records.source to the folder of the source")
    with replacing(out_source) as temporary:
        temporary.mkdir()
        with (temporary / MANIFEST).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["file", "bytes", "sha256"])
            for path in sorted(path for path in source.rglob("*") if path.is_file() and ".part-" not in path.name):
                writer.writerow([path.relative_to(source).as_posix(), path.stat().st_size, sha256_of(path)])
    return source


def _gather(tables: Path, *, kind: str, quality_grades: list[str], chosen: dict[str, Any]) -> list[Gathering]:
    """What the sources give; ``chosen`` is what all of them are told."""
    if kind == "folder":
        return [folder.gather(tables, **chosen)]
    gatherings = []
    for module in (inaturalist, inaturalist_api):
        if (tables / module.FOLDER).is_dir():
            gatherings.append(module.gather(tables / module.FOLDER, quality_grades=quality_grades, **chosen))
    archives = gbif.archives(tables)
    searches = [tables / gbif_search.FOLDER] if (tables / gbif_search.FOLDER).is_dir() else []
    known = _by_number(gatherings if archives or searches else [])
    gatherings += [gbif.gather(path, inaturalist=known, **chosen) for path in archives]
    gatherings += [gbif_search.gather(path, inaturalist=known, **chosen) for path in searches]
    if not gatherings:
        folders = ", ".join((inaturalist.FOLDER, inaturalist_api.FOLDER, gbif_search.FOLDER))
        raise InputError(f"{tables}: neither a folder {folders} nor a Darwin Core Archive in it")
    return gatherings


def _by_number(gatherings: list[Gathering]) -> pa.Table:
    """The observations of iNaturalist's photographs as ``gbif.INATURALIST``; those of one stay in their order."""
    photographs = pa.concat_tables([_NO_OBSERVATIONS, *(one.observations for one in gatherings)])
    # a dropped row may have an id that is no number
    numbers = pc.match_substring_regex(photographs["photo_id"], inaturalist.PHOTO_ID)
    rows = photographs.filter(numbers).cast(gbif.INATURALIST)
    return rows.take(pa.array(np.argsort(rows["photo_id"].to_numpy(), kind="stable")))


def _within(gatherings: list[Gathering], extent: Extent, flow: _Flow) -> Iterator[pa.Table]:
    """The photographs that the sources took and that lie within the extent, under accepted names."""
    for gathering in gatherings:
        flow.read += gathering.other_taxon
        flow.reasons["other taxon"] += gathering.other_taxon
        for rows in gathering.dropped_tables():
            flow.read += rows.num_rows
            flow.drop(rows, rows["reason"])
        accepted = _accepted(gathering, gatherings)
        for rows in gathering.tables():
            flow.read += rows.num_rows
            reasons = extent.reasons(rows)
            flow.drop(rows.filter(reasons.is_valid()), reasons.drop_null())
            yield _renamed(rows.filter(reasons.is_null()), accepted, flow)


def _of_size(rows: pa.Table, size: str) -> pa.Table:
    """Photographs of iNaturalist, GBIF's copies of them included, at the address of another size."""
    if size == "original":
        return rows
    urls = pc.replace_substring_regex(rows["url"], rf"^({_INATURALIST}/photos/\d+)/[a-z]+\.", rf"\1/{size}.")
    return rows.set_column(rows.schema.get_field_index("url"), rows.schema.field("url"), urls)


def _accepted(gathering: Gathering, gatherings: list[Gathering]) -> dict[str, str]:
    """The accepted names that a source tells for inactive ones, where all tell the same and not in a circle."""
    inactive = set().union(*(one.inactive for one in gatherings))
    told = {old: {new for one in gatherings for new in one.synonyms.get(old, ())} for old in inactive}
    following = {old: next(iter(new)) for old, new in told.items() if len(new) == 1}
    accepted = {}
    for old in sorted(gathering.inactive & following.keys()):
        new, passed = following[old], {old}
        while new in following and new not in passed:
            passed.add(new)
            new = following[new]
        if new not in passed:
            accepted[old] = new
    return accepted


def _renamed(rows: pa.Table, accepted: dict[str, str], flow: _Flow) -> pa.Table:
    positions = pc.index_in(rows["taxon_id"], value_set=pa.array(accepted, pa.string()))
    flow.renamed += len(positions) - positions.null_count
    names = pc.coalesce(pa.array(accepted.values(), pa.string()).take(positions), rows["taxon_id"])
    return rows.set_column(rows.schema.get_field_index("taxon_id"), rows.schema.field("taxon_id"), names)


def _by_shard(found: Iterable[pa.Table], shards: list[str], work: Path) -> Iterator[pa.Table]:
    """Rows of ``tables.RECORDS``; a shard's rows stand together, so that its job finds them without reading all."""
    ordered = Sorter(RECORDS, _ORDER, together=2, folder=work)
    for rows in found:
        keys = rows["key"].to_pylist()
        if "shard" not in rows.column_names:
            rows = rows.append_column("shard", pa.array((shard_of(key, shards) for key in keys), pa.string()))
        ordered.add(rows)
    yield from ordered


def _once(found: Iterable[pa.Table], flow: _Flow) -> Iterator[pa.Table]:
    """Each photograph under the first of its observations; rows of one photograph come in one table."""
    for rows in found:
        keys = rows["key"].combine_chunks()
        first = np.ones(len(keys), bool)
        first[1:] = pc.not_equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)
        taken, again = parted(rows, first)
        flow.drop(again, "listed twice")
        yield taken


def _limited(found: Iterable[pa.Table], most: int, seed: int, flow: _Flow, work: Path) -> Iterator[pa.Table]:
    """At most so many photographs of each taxon, whole observations in an order that the seed draws."""
    by = ["taxon_id", "drawn", "observation_id", "key"]
    ordered = Sorter(RECORDS.append(pa.field("drawn", pa.uint64())), by, together=4, folder=work)
    for rows in found:
        ordered.add(rows.append_column("drawn", drawn_order(rows["observation_id"], seed)))
    maximum = Maximum(most)
    for rows in ordered:
        taken, beyond = parted(rows, maximum.kept(rows["taxon_id"]))
        flow.drop(beyond, BEYOND)
        yield taken.drop_columns("drawn")


def _taken(found: Iterable[pa.Table], asked: pa.Array | None, flow: _Flow, source: Path) -> Iterator[pa.Table]:
    """Counts what passes and keeps what is asked for by key, or all where ``asked`` is None.

    Raises:
        InputError: if nothing passes.
    """
    for rows in found:
        flow.take(rows)
        some = rows if asked is None else rows.filter(pc.is_in(rows["key"], asked))
        flow.asked_for.append(some.select(_ANNOTATED))
        yield rows
    if not flow.out:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in (+flow.reasons).most_common())
        raise InputError(
            f"{source}: no photograph is left ({reasons or 'the source lists none'}); change records.taxon or the "
            "filters in records"
        )


def _asked(tables: Path, *, kind: str) -> pa.Array | None:
    """Keys that annotations may name; None for photographs of one's own, which are all asked for."""
    if kind in ("folder", "trays", "individuals"):
        return None
    path = tables / "annotations.json"
    if not path.is_file():
        return pa.array([], pa.string())
    keys = coco_keys(path)
    read_coco(path, pa.chunked_array([keys]))  # what is wrong in it is told before the tables are read
    return keys


def _annotations(tables: Path, found: pa.Table, *, kind: str, category: str, faults: str) -> Annotations:
    if kind in ("folder", "individuals"):
        urls, parts = (
            dict(zip(rows["key"].to_pylist(), rows["url"].to_pylist(), strict=True))
            for rows in parted(found, pc.is_null(found["region"]).to_numpy())
        )
        return annotated.annotations(tables, urls, category=category, faults=faults, parts=parts)
    path = tables / "annotations.json"
    return read_coco(path, found["key"]) if path.is_file() else Annotations(category=category)


def _among(annotations: Annotations, found: pa.Table) -> Annotations:
    """Without the photographs that were not taken."""
    keys = set(found["key"].to_pylist())
    kept = {key: one for key, one in annotations.photographs.items() if key in keys}
    annotations.left_out["not among the records"] += len(annotations.photographs) - len(kept)
    return replace(annotations, photographs=kept)


def _splits(
    annotations: Annotations, found: pa.Table, *, by: str, shares: dict[str, float], gap_s: float, seed: int
) -> dict[str, str]:
    """Split of each annotated photograph that has one; the others are counted in ``annotations.left_out``."""
    keys = pa.array(annotations.photographs, pa.string())
    rows = found.filter(pc.is_in(found["key"], keys)).to_pylist()
    if by == "given":
        return _given(annotations, {row["key"]: row["sha256"] or row["key"] for row in rows})
    if by == "photograph":
        return split_by_photograph([row["key"] for row in rows], **shares, seed=seed)
    if by == "observation":
        return split_by_observation({row["key"]: row["observation_id"] for row in rows}, **shares, seed=seed)
    times = {row["key"]: row["observed_at"] for row in rows if row["observed_at"] is not None}
    splits = split_by_time(times, **shares, gap_s=gap_s)
    kept = {key: split for key, split in splits.items() if split is not None}
    annotations.left_out["no time"] += len(rows) - len(times)
    annotations.left_out["too close to a block's border"] += len(splits) - len(kept)
    return kept


def _check_annotated(annotations: Annotations, splits: dict[str, str], *, by: str) -> None:
    """Refuse annotations of which nothing is left, unless all are of photographs that filters took or of parts."""
    reasons = +annotations.left_out
    if splits or set(reasons) <= {"not among the records", annotated.PART_SEARCHED}:
        return
    told = ", ".join(f"{reason}: {count}" for reason, count in reasons.most_common())
    split = annotations.photographs and by != "observation"
    remedy = "set records.annotation_split=observation" if split else "mend the labels or the photographs"
    raise InputError(f"{reasons.total()} annotated photographs, all left out ({told}); {remedy}")


def _tell_empty(splits: dict[str, str]) -> None:
    """Say of which splits there is no photograph, since a stage that needs some stops only after all are fetched."""
    counts = Counter(splits.values())
    if splits and (empty := [split for split in SPLITS if not counts[split]]):
        told = ", ".join(f"{split} {counts[split]}" for split in SPLITS)
        print(
            f"annotated photographs: {told}: without {' and '.join(empty)} the run will stop, at the detector or its "
            "metrics; annotate more, change records.annotation_validation_share and _test_share, or set "
            "records.annotation_split=photograph, which may part photographs of one observation",
            file=sys.stderr,
        )


def _given(annotations: Annotations, sha256: dict[str, str]) -> dict[str, str]:
    """The set's own splits, without photographs whose very file is held out elsewhere in the set."""
    given = {key: split for key, split in annotations.given.items() if key in sha256}
    twice = annotated.in_two_splits(given, sha256)
    annotations.left_out["no given split"] += len(sha256) - len(given)
    annotations.left_out["same photograph in two splits"] += len(twice)
    return {key: split for key, split in given.items() if key not in twice}


def _annotation_checks(annotations: Annotations, found: pa.Table) -> dict[str, int]:
    """What is not wrong with an annotated set and is worth knowing."""
    rows = found.filter(pc.is_in(found["key"], pa.array(annotations.photographs, pa.string())))
    sha256 = {row["key"]: row["sha256"] or row["key"] for row in rows.select(["key", "sha256"]).to_pylist()}
    given = {key: split for key, split in annotations.given.items() if key in sha256}
    return {
        "photographs without a box": sum(not one.boxes for one in annotations.photographs.values()),
        "photographs that are copies of another": len(sha256) - len(set(sha256.values())),
        "photographs in two given splits": len(annotated.in_two_splits(given, sha256)),
    }


def _metrics(
    flow: _Flow, gatherings: list[Gathering], annotations: Annotations, splits: dict[str, str]
) -> dict[str, Any]:
    reasons = +flow.reasons
    if flow.read != flow.out + reasons.total():
        raise RuntimeError(f"records: {flow.read} photographs read, {flow.out} taken and {reasons.total()} dropped")
    boxes = Counter[str]()
    for key, split in splits.items():
        boxes[split] += len(annotations.photographs[key].boxes)
    per_split = Counter(splits.values())
    return {
        "rows": {"in": flow.read, "out": flow.out, "dropped": _ordered(reasons)},
        "sources": _ordered(flow.sources),
        "licences": _ordered(flow.licences),
        "licences_excluded": _ordered(sum((one.excluded for one in gatherings), Counter())),
        "malformed_rows": _ordered(sum((one.malformed for one in gatherings), Counter())),
        "observations": len(flow.observations),
        "observers": len(flow.observers),
        "taxa": len(flow.taxa),
        "with_coordinates": flow.with_coordinates,
        "annotations": {
            "photographs": {split: per_split[split] for split in SPLITS},
            "boxes": {split: boxes[split] for split in SPLITS},
            "left_out": _ordered(+annotations.left_out),
        },
        "synonyms_replaced": flow.renamed,
    }


def _counts(rows: pa.Table, column: str) -> dict[str, int]:
    return {row["values"]: row["counts"] for row in pc.value_counts(rows[column]).to_pylist()}


def _ordered(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
