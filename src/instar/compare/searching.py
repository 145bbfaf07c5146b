"""A detector on some annotated photographs, for a comparison."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from instar import detectors
from instar.annotations import read_annotations, read_images, usable
from instar.caps import Own, check_all_caps
from instar.detections import detections
from instar.detector import check_crowds
from instar.detectors import Recipe, kept_of_a_tile, own_cap
from instar.examples import Tiling
from instar.params import Params
from instar.tables import IMAGES, read_table, write_table


def search(detector: Path, study: Path, out: Path, params: Params, splits: Sequence[str]) -> None:
    """Run the stage detections on the annotated photographs of some splits, shard by shard.

    Args:
        detector: folder of the trained detector.
        study: folder of the study, with annotations and images.
        out: folder to write: ``images`` (rows of all annotated photographs), ``searched`` and ``detections``.
        params: the section detections is used.
        splits: of the photographs that are searched.

    Raises:
        InputError: see ``check_caps_of``.
    """
    given = params.detections
    kept_of_a_tile(detector, given.max_boxes)  # it tells
    check_caps_of(study, params, splits, own_cap(detector))
    annotated, _ = read_annotations(study / "annotations.json")
    every = pa.array([photograph.key for photograph in annotated], pa.string())
    keys = pa.array([photograph.key for photograph in annotated if photograph.split in splits], pa.string())
    for shard in params.shards:
        table = read_table(study / f"images/{shard}.parquet", IMAGES)
        rows = table.filter(pc.is_in(table["key"], every))
        write_table(out / f"images/{shard}.parquet", rows, IMAGES)
        searched = out / f"searched/{shard}.parquet"
        write_table(searched, rows.filter(pc.is_in(rows["key"], keys)), IMAGES)
        tar = study / f"images/{shard}.tar"
        detections(detector, searched, tar, out / f"detections/{shard}.parquet", **asdict(given))


def check_caps_of(study: Path, params: Params, splits: Sequence[str], own: Own | None = None) -> None:
    """From annotations alone, before hours of work: what is kept of a tile must exceed the animals on the densest one.

    Args:
        study: folder of the study, with annotations and images.
        params: the section detections is used.
        splits: of the photographs that are to be searched.
        own: see ``check_caps``.

    Raises:
        InputError: if some could not be found.
    """
    path, given = study / "annotations.json", params.detections
    annotated, _ = read_annotations(path)
    table = read_images(study / "images", params.shards, annotated)
    wanted = [photograph for photograph in annotated if photograph.split in splits]
    how = given.max_boxes, path, own
    check_all_caps(wanted, table, *how, tile_px=given.tile_px, tile_overlap=given.tile_overlap)


def check_preset(params: Params, study: Path) -> None:
    """Before any training: whether a detector can be had, and whether it gives more than all animals of a tile.

    Args:
        params: whose section detector is meant.
        study: folder of the study, with annotations and images.

    Raises:
        InputError: if not.
    """
    given, path = params.detector, study / "annotations.json"
    of_recipe = [one.name for one in fields(Recipe) if one.name != "seed"]
    recipe = Recipe(**{name: getattr(given, name) for name in of_recipe}, seed=params.seed)
    module = detectors.family(given.family)
    if not detectors.needs_training(given.family):
        module.describe(recipe)  # what is missing is told
        own = None
    else:
        most, remedy = own = module.most(recipe)
        annotated, _ = read_annotations(path)
        table = read_images(study / "images", params.shards, annotated)
        tiling = Tiling(given.tile_px, given.tile_overlap, given.tile_min_part)
        check_crowds(usable(annotated, table)[0], table, tiling, most, remedy, path)
    check_caps_of(study, params, ("validation", "test"), own)
