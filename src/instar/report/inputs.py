"""Everything the page shows, read and checked."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from instar.errors import InputError
from instar.params import Params, load
from instar.report.names import Taxon, taxa_by_id
from instar.tables import CROPS, DETECTIONS, IMAGES, RECORDS, TAXONOMY, read_shards, read_table

#: Stages whose figures every study has, and those that only a study with labels has.
STAGES = ("records", "images", "detector", "detections", "detection_metrics", "crops")
LABEL_STAGES = ("dataset", "classifier", "evaluation")

# Only these columns are read: at millions of photographs the others would not fit into memory.
_RECORDS = ["source", "taxon_id", "latitude", "longitude", "licence"]
_IMAGES = ["key", "source", "taxon_id", "licence", "rights_holder", "reference", "shard", "reason", "offset", "size"]
_BOXES = ["photo_key", "reason", "x_min", "y_min", "x_max", "y_max", "score"]
_CROPS = ["key", "source", "taxon_id", "licence", "rights_holder", "reference", "shard", "reason", "offset", "size"]


@dataclass(frozen=True)
class Inputs:
    """What the stages wrote.

    Attributes:
        params: of the study.
        metrics: figures by stage.
        taxa: by taxon id.
        records: source, taxon_id, latitude, longitude and licence of every photograph.
        images: photographs that lie in a tar.
        boxes: detections above the confidence threshold.
        crops: crops that lie in a tar.
        plots: folder of the curves.
        has_labels: whether the study goes on after the crops with a classifier of species.
        has_taxa: whether it goes on with one of taxa.
        has_individuals: whether it goes on with one of individuals.
    """

    params: Params
    metrics: dict[str, Any]
    taxa: dict[str, Taxon]
    records: pd.DataFrame
    images: pd.DataFrame
    boxes: pd.DataFrame
    crops: pd.DataFrame
    plots: Path
    has_labels: bool
    has_taxa: bool = False
    has_individuals: bool = False

    def curve(self, name: str, columns: list[str]) -> pd.DataFrame:
        """A CSV of the plots folder, which must have the columns; an empty cell is null."""
        return read_csv(self.plots / name, columns)


def read_inputs(
    records: Path,
    taxonomy: Path,
    images: Path,
    detections: Path,
    crops: Path,
    metrics: Path,
    plots: Path,
    params: Path,
    *,
    shards: list[str],
    confidence: float,
) -> Inputs:
    """Read all inputs of the page.

    Raises:
        InputError: if one is missing or damaged.
    """
    photographs = read_shards(images, shards, _columns(IMAGES, [*_IMAGES, "width", "height"])).to_pandas()
    boxes = read_shards(detections, shards, _columns(DETECTIONS, _BOXES)).to_pandas()
    cut = read_shards(crops, shards, _columns(CROPS, _CROPS)).to_pandas()
    given = load(params)
    return Inputs(
        params=given,
        metrics=_metrics(metrics, [*STAGES, *(LABEL_STAGES if given.labels else ())]),
        taxa=taxa_by_id(read_table(taxonomy, TAXONOMY).to_pandas()),
        records=read_table(records, _columns(RECORDS, _RECORDS)).to_pandas(),
        images=photographs[photographs["reason"].isna()],
        boxes=boxes[boxes["reason"].isna() & (boxes["score"] >= confidence)],
        crops=cut[cut["reason"].isna()],
        plots=plots,
        has_labels=given.labels == ["species"],
        has_taxa=given.labels == ["taxon"],
        has_individuals=given.labels == ["identity"],
    )


def _columns(schema: pa.Schema, names: list[str]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in names])


def _metrics(folder: Path, stages: list[str]) -> dict[str, Any]:
    found = {}
    for stage in stages:
        path = folder / f"{stage}.json"
        if not path.is_file():
            raise InputError(f"{path}: no such file; run the stage {stage}")
        try:
            found[stage] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path}: not JSON ({error}); run the stage {stage} again") from None
    return found


def read_csv(path: Path, columns: list[str], separator: str = ",") -> pd.DataFrame:
    """A table of curves or classes.

    Raises:
        InputError: if it is missing or lacks a column.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; run the stage that writes it")
    try:
        # "NA" and "None" may be names of taxa; only an empty cell is null
        table = pd.read_csv(path, sep=separator, keep_default_na=False, na_values=[""])
    except pd.errors.EmptyDataError:
        raise InputError(f"{path}: empty; run the stage that writes it again") from None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise InputError(f"{path}: column {missing[0]} is missing; run the stage that writes it again")
    return table
