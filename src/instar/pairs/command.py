"""`instar pairs`: the pairs of photographs that a person should compare."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar.files import replacing, write_csv

if TYPE_CHECKING:
    import pandas as pd

    from instar.params import Params

_DESCRIPTION = """Write the pairs of photographs of a study of individuals whose comparison tells most, the best first,
on a page that shows them side by side: held-out photographs and queries with those that they are most like. A person
says same, different, unsure or merge, by keys, and downloads decisions.csv, which the stage dataset reads
(dataset.decisions=decisions.csv): "same" gives the left photograph alone the individual of the right one, "merge" gives
it to all photographs of the left one's individual, "different" drops a photograph that is said to be of the same
individual. Only photographs whose licence lets them be shown are on the page,
and those of the study's own source that carry none: keep the page to yourself where others took them."""
#: Longer side of a photograph on the page, pixels.
PHOTOGRAPH_PX = 420


def pairs(words: list[str]) -> int:
    """Read the words of ``instar pairs`` and write page and table."""
    parser = argparse.ArgumentParser(prog="instar pairs", description=_DESCRIPTION)
    parser.add_argument(
        "--out", type=Path, default=Path("pairs.html"), metavar="FILE", help="page to write; the table is beside it"
    )
    parser.add_argument("--gallery", type=Path, metavar="FOLDER", help="to compare with; the study's own if not given")
    parser.add_argument("--pairs", type=_count, default=100, help="the most that are chosen (default: %(default)s)")
    parser.add_argument(
        "--per-individual", type=_count, default=5, help="the most that one individual is in (default: %(default)s)"
    )
    options = parser.parse_args(words)
    from instar import params
    from instar.identify.embedded import check_individuals
    from instar.identify.who import check_given

    study = params.load()
    check_individuals(study)
    check_given(options.gallery)
    found, crops = chosen_pairs(study, options.gallery, pairs=options.pairs, per_individual=options.per_individual)
    write_pairs(options.out, study, found, crops)
    print(f"{options.out}: {len(found)} pairs; open it in a browser. {_table(options.out)}: the same as a table")
    return 0


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return int(text)


def _table(out: Path) -> Path:
    return out.with_suffix(".csv")


def chosen_pairs(
    study: "Params", folder: Path | None, *, pairs: int, per_individual: int
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """The most informative pairs, with ``key`` and ``other_key`` of their crops, and what is told of these crops.

    Raises:
        InputError: if an output of the stage evaluation is missing or damaged.
    """
    from instar.pairs.candidates import candidates, read_crops
    from instar.reid.answering import read_answering
    from instar.reid.gallery import open_gallery
    from instar.reid.pairs import informative_pairs
    from instar.report.pictures import showable
    from instar.tables import IDENTITY_PREDICTIONS, read_table

    data = Path("data") / study.study
    folder = folder or data / "gallery"
    predictions = read_table(data / "predictions.parquet", IDENTITY_PREDICTIONS).to_pandas()
    gallery = open_gallery(folder)
    table = candidates(predictions, gallery, read_answering(folder))
    crops = read_crops(data / "crops", study.shards, {*table["key"], *table["other_key"]})
    allowed = showable(crops, own=("folder", "individuals"))
    shown = table["key"].isin(allowed.index) & table["other_key"].isin(allowed.index)
    if hidden := int((~shown).sum()):
        told = "a photograph's licence does not let it be shown, or it was enrolled and is none of the study's"
        print(f"instar pairs: {hidden} of {len(table)} pairs are left out: {told}", file=sys.stderr)
    table = table[shown]
    found = informative_pairs(table, pairs=pairs, per_individual=per_individual)
    crop_of = dict(
        zip([*table["photo_key"], *table["other_photo_key"]], [*table["key"], *table["other_key"]], strict=True)
    )
    for name, photo in (("key", "photo_key"), ("other_key", "other_photo_key")):
        found[name] = [crop_of[key] for key in found[photo]]
    return found, allowed


def write_pairs(out: Path, study: "Params", found: "pd.DataFrame", crops: "pd.DataFrame") -> None:
    """Write the page and the table of some pairs."""
    from instar.pairs.page import doubtful, page
    from instar.reid.pairs import COLUMNS
    from instar.tables import IDENTITY_DATASET, read_table

    data = Path("data") / study.study
    rows = read_table(data / "dataset.parquet", IDENTITY_DATASET).to_pylist()
    sides = {row["key"]: row["orientation"] for row in rows}
    individuals = _crops_of(doubtful(found), rows, study)
    text = page(found, crops, sides, individuals, data / "crops", longest_px=PHOTOGRAPH_PX)
    columns = ("key", "other_key", *COLUMNS)
    table = found[list(columns)].astype(object).where(found[list(columns)].notna(), None)
    write_csv(_table(out), columns, table.itertuples(index=False, name=None))
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _crops_of(names: set[str], rows: list[dict[str, Any]], study: "Params") -> dict[str, list[tuple[str, str]]]:
    """Key and sha256 of the crops of each individual, whether they may be shown or not."""
    from instar.pairs.candidates import read_crops

    labels = {row["key"]: row["label"] for row in rows if row["split"] and row["label"] in names}
    crops = read_crops(Path("data") / study.study / "crops", study.shards, set(labels))
    found: dict[str, list[tuple[str, str]]] = {name: [] for name in sorted(names)}
    for key, sha in sorted(zip(crops["key"], crops["sha256"], strict=True)):
        found[labels[key]].append((key, sha))
    return found
