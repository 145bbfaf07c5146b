"""The stage ``records``: the sources become one row per photograph, a taxonomy and annotated boxes."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instar.errors import InputError
from instar.files import replacing, sha256_of, write_json
from instar.records import annotated, folder, gbif, gbif_search, inaturalist, inaturalist_api
from instar.records.annotations import SPLITS, Annotations, coco_json, read_coco, split_by_observation, split_by_time
from instar.records.gathering import Gathering
from instar.records.names import FILE as BACKBONE
from instar.records.names import Names, read_backbone
from instar.records.taxonomy import taxonomy_rows
from instar.shards import shard_of
from instar.tables import RECORDS, RECORDS_DROPPED, TAXONOMY, write_table


def records(
    source: Path,
    out_source: Path,
    out_records: Path,
    out_dropped: Path,
    out_taxonomy: Path,
    out_annotations: Path,
    out_metrics: Path,
    *,
    seed: int,
    shards: list[str],
    kind: str,
    taxon: str,
    licences: list[str],
    quality_grades: list[str],
    name_confidence: int,
    annotation_split: str,
    annotation_faults: str,
    annotation_validation_share: float,
    annotation_test_share: float,
    annotation_gap_s: float,
) -> None:
    """Read the sources: one row per photograph, the taxa they carry, and the annotated boxes split in three.

    Photographs of other taxa are counted in the metrics and not listed; every other dropped one is a row with its
    reason. A photograph that is listed twice counts once, under the first of its observations. One that GBIF took over
    from iNaturalist counts as iNaturalist's where that photograph is in the iNaturalist tables.

    Args:
        source: kind world: the description of a drawn world. kind tables: a folder with ``inaturalist-open-data``,
            ``inaturalist-api``, Darwin Core Archives, ``gbif-search``, ``backbone.jsonl`` and ``annotations.json``,
            each of them where there is such a thing. kind folder: a folder with ``images`` and, where there are such,
            ``table.csv``, ``backbone.jsonl`` and annotations.
        out_source: folder; gets the drawn world, or the names and hashes of the source's files.
        out_records: gets the photographs that are taken, ordered by shard and key.
        out_dropped: gets the dropped photographs and the reasons.
        out_taxonomy: gets the taxa of the photographs and their ancestors.
        out_annotations: gets COCO JSON; every image has a ``split``.
        out_metrics: gets counts.
        seed: of the drawn world and of the split by observation.
        shards: names of the shards, one of which each photograph belongs to.
        kind: world, tables or folder.
        taxon: name of the taxon whose descendants are taken; empty for all.
        licences: licences whose photographs are taken; one's own photographs without any are taken.
        quality_grades: iNaturalist's grades that are taken.
        name_confidence: of an answer in the source's ``backbone.jsonl``, percent; one with less places no name.
        annotation_split: observation, time_block, or given for the set's own.
        annotation_faults: refuse a set of one's own with a wrong label, or leave_out its photograph.
        annotation_validation_share: of the annotated photographs, for validation.
        annotation_test_share: of the annotated photographs, held out for the figures.
        annotation_gap_s: time_block: seconds left out at the end of a block.

    Raises:
        InputError: if the source lacks something or is damaged, or no photograph passes the filters.
    """
    tables = _prepare(source, out_source, kind=kind, seed=seed)
    names = Names(read_backbone(tables / BACKBONE), confidence=name_confidence)
    gatherings = _gather(tables, kind=kind, taxon=taxon, licences=licences, quality_grades=quality_grades, names=names)
    renamed = sum(_accept_names(gathering, gatherings) for gathering in gatherings)
    found, dropped = _once(gatherings)
    reasons = Counter(dropped["reason"].to_pylist())
    reasons["other taxon"] += sum(gathering.other_taxon for gathering in gatherings)
    reasons = +reasons
    if not found.num_rows:
        taken = ", ".join(f"{reason}: {count}" for reason, count in reasons.most_common()) or "the source lists none"
        raise InputError(f"{source}: no photograph is left ({taken}); change records.taxon or the filters in records")
    sorted_records = _with_shards(found, shards)
    annotations = _annotations(tables, found, kind=kind, category=taxon or "animal", faults=annotation_faults)
    splits = _splits(
        annotations,
        found,
        by=annotation_split,
        shares={"validation_share": annotation_validation_share, "test_share": annotation_test_share},
        gap_s=annotation_gap_s,
        seed=seed,
    )
    carried = pc.unique(found["taxon_id"].drop_null()).to_pylist()
    write_table(out_records, sorted_records, RECORDS)
    write_table(out_dropped, dropped.sort_by([(name, "ascending") for name in RECORDS_DROPPED.names]), RECORDS_DROPPED)
    write_table(out_taxonomy, taxonomy_rows([one.lineages for one in gatherings], carried), TAXONOMY)
    write_json(out_annotations, coco_json(annotations, splits))
    write_json(
        out_metrics,
        {
            **_metrics(found, reasons, gatherings, annotations, splits),
            "synonyms_replaced": renamed,
            "annotation_checks": _annotation_checks(annotations, found),
        },
    )


def _prepare(source: Path, out_source: Path, *, kind: str, seed: int) -> Path:
    """Draw the world, or list the files that were read; returns the folder that holds the tables."""
    if source.resolve().is_relative_to(out_source.resolve()):
        raise InputError(f"{source}: lies in the output {out_source}, which is replaced; move the source elsewhere")
    if out_source.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{source}: is or holds the output {out_source}; give the source a folder of its own")
    if kind == "world":
        from instar.records.world import draw_world  # only here, since it loads the drawing

        draw_world(source, out_source, seed=seed)
        return out_source
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; set records.source to the folder of the source")
    with replacing(out_source) as temporary:
        temporary.mkdir()
        with (temporary / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["file", "bytes", "sha256"])
            for path in sorted(path for path in source.rglob("*") if path.is_file()):
                writer.writerow([path.relative_to(source).as_posix(), path.stat().st_size, sha256_of(path)])
    return source


def _gather(
    tables: Path, *, kind: str, taxon: str, licences: list[str], quality_grades: list[str], names: Names
) -> list[Gathering]:
    if kind == "folder":
        return [folder.gather(tables, taxon=taxon, licences=licences, names=names)]
    chosen: dict[str, Any] = {"taxon": taxon, "licences": licences, "names": names}
    gatherings = []
    for module in (inaturalist, inaturalist_api):
        if (tables / module.FOLDER).is_dir():
            gatherings.append(module.gather(tables / module.FOLDER, quality_grades=quality_grades, **chosen))
    known = _by_number(pa.concat_tables([_NO_OBSERVATIONS, *(one.observations for one in gatherings)]))
    for path in sorted(tables.iterdir()):
        if path.suffix.lower() == ".zip" or (path / "meta.xml").is_file():
            gatherings.append(gbif.gather(path, inaturalist=known, **chosen))
    if (tables / gbif_search.FOLDER).is_dir():
        gatherings.append(gbif_search.gather(tables / gbif_search.FOLDER, inaturalist=known, **chosen))
    if not gatherings:
        folders = ", ".join((inaturalist.FOLDER, inaturalist_api.FOLDER, gbif_search.FOLDER))
        raise InputError(f"{tables}: neither a folder {folders} nor a Darwin Core Archive in it")
    return gatherings


_NO_OBSERVATIONS = pa.schema([(name, pa.string()) for name in gbif.INATURALIST.names]).empty_table()


def _by_number(photographs: pa.Table) -> pa.Table:
    """``Gathering.observations`` as ``gbif.INATURALIST``; those of one photograph stay in their order."""
    rows = photographs.filter(photographs["photo_id"].is_valid()).cast(gbif.INATURALIST)
    return rows.take(pa.array(np.argsort(rows["photo_id"].to_numpy(), kind="stable")))


def _accept_names(gathering: Gathering, gatherings: list[Gathering]) -> int:
    """Give inactive names the accepted one that a source tells, where all tell the same; returns how many rows."""
    told = {old: {new for one in gatherings for new in one.synonyms.get(old, ())} for old in gathering.inactive}
    accepted = {old: next(iter(new)) for old, new in sorted(told.items()) if len(new) == 1}
    taxon_ids = gathering.found["taxon_id"]
    positions = pc.index_in(taxon_ids, value_set=pa.array(accepted, pa.string()))
    gathering.replace_column(
        "taxon_id", pc.coalesce(pa.array(accepted.values(), pa.string()).take(positions), taxon_ids)
    )
    return len(positions) - positions.null_count


def _once(gatherings: list[Gathering]) -> tuple[pa.Table, pa.Table]:
    """All photographs, each under the first of its observations, and all dropped ones with the repetitions."""
    found = pa.concat_tables([gathering.found for gathering in gatherings])
    order = pc.sort_indices(found, [("key", "ascending"), ("observation_id", "ascending"), ("url", "ascending")])
    found = found.take(order)
    keys = found["key"].combine_chunks()
    first = np.ones(len(keys), bool)
    first[1:] = pc.not_equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)
    again = found.filter(pa.array(~first)).select(["source", "photo_id"])
    reason = pa.array(["listed twice"] * again.num_rows, pa.string())
    dropped = [gathering.dropped for gathering in gatherings]
    dropped.append(again.append_column("reason", reason).cast(RECORDS_DROPPED))
    return found.filter(pa.array(first)), pa.concat_tables(dropped)


def _with_shards(found: pa.Table, shards: list[str]) -> pa.Table:
    """Rows of ``tables.RECORDS``; a shard's rows stand together, so that its job finds them without reading all."""
    column = pa.array((shard_of(key.as_py(), shards) for key in found["key"]), pa.string())
    return found.append_column("shard", column).sort_by([("shard", "ascending"), ("key", "ascending")])


def _annotations(tables: Path, found: pa.Table, *, kind: str, category: str, faults: str) -> Annotations:
    if kind == "folder":
        urls = dict(zip(found["key"].to_pylist(), found["url"].to_pylist(), strict=True))
        return annotated.annotations(tables, urls, category=category, faults=faults)
    path = tables / "annotations.json"
    return read_coco(path, found["key"]) if path.is_file() else Annotations(category=category)


def _splits(
    annotations: Annotations, found: pa.Table, *, by: str, shares: dict[str, float], gap_s: float, seed: int
) -> dict[str, str]:
    """Split of each annotated photograph that has one; the others are counted in ``annotations.left_out``."""
    keys = pa.array(annotations.photographs, pa.string())
    rows = found.filter(pc.is_in(found["key"], keys))
    rows = rows.select(["key", "observation_id", "observed_at", "sha256"]).to_pylist()
    if by == "given":
        return _given(annotations, {row["key"]: row["sha256"] or row["key"] for row in rows})
    if by == "observation":
        return split_by_observation({row["key"]: row["observation_id"] for row in rows}, **shares, seed=seed)
    times = {row["key"]: row["observed_at"] for row in rows if row["observed_at"] is not None}
    splits = split_by_time(times, **shares, gap_s=gap_s)
    kept = {key: split for key, split in splits.items() if split is not None}
    annotations.left_out["no time"] += len(rows) - len(times)
    annotations.left_out["too close to a block's border"] += len(splits) - len(kept)
    return kept


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
    found: pa.Table,
    reasons: Counter[str],
    gatherings: list[Gathering],
    annotations: Annotations,
    splits: dict[str, str],
) -> dict[str, Any]:
    read = sum(one.other_taxon + one.found.num_rows + one.dropped.num_rows for one in gatherings)
    if read != found.num_rows + reasons.total():
        raise RuntimeError(f"records: {read} photographs read, {found.num_rows} taken and {reasons.total()} dropped")
    boxes = Counter[str]()
    for key, split in splits.items():
        boxes[split] += len(annotations.photographs[key].boxes)
    per_split = Counter(splits.values())
    return {
        "rows": {"in": read, "out": found.num_rows, "dropped": _ordered(reasons)},
        "sources": _counts(found, "source"),
        "licences": _counts(found, "licence"),
        "observations": pc.count_distinct(found["observation_id"]).as_py(),
        "observers": pc.count_distinct(found["observer_id"]).as_py(),
        "taxa": pc.count_distinct(found["taxon_id"]).as_py(),
        "with_coordinates": found.num_rows - found["latitude"].null_count,
        "annotations": {
            "photographs": {split: per_split[split] for split in SPLITS},
            "boxes": {split: boxes[split] for split in SPLITS},
            "left_out": _ordered(+annotations.left_out),
        },
    }


def _counts(found: pa.Table, column: str) -> dict[str, int]:
    return _ordered(Counter({row["values"]: row["counts"] for row in pc.value_counts(found[column]).to_pylist()}))


def _ordered(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
