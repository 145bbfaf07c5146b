"""Which accuracy the same classifier would claim under a looser split of the same crops."""

import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from instar.ablations.run import one_process
from instar.classifier.stage import classifier
from instar.compare.reuse import key_of, once
from instar.dataset.choice import WAYS
from instar.dataset.leakage import RELATIONS
from instar.dataset.stage import dataset
from instar.errors import InputError
from instar.evaluation.other import TOPS
from instar.evaluation.stage import evaluation
from instar.files import replacing
from instar.params import Params, load

COLUMNS = ["split_by", "held_out", *RELATIONS, "species_top1", "low", "high", "genus_top1", "genus_low", "genus_high"]
#: What held-out crops share with training, for people.
_WORDS = {"near_duplicate": "near-duplicate", "place_day": "place and day"}
#: Keys of the section evaluation that only a study of individuals uses.
_OF_INDIVIDUALS = (
    *("answer_by", "threshold_by", "neighbours", "flips", "sides"),
    *("local", "local_candidates", "local_weights"),
)


def compare_splits(ways: list[str], out: Path | None) -> str:
    """Split the study's crops in several ways, and train and judge the classifier of params.yaml on each.

    Args:
        ways: of ``choice.WAYS``.
        out: folder to write; ``data/<study>/comparison`` if None.

    Returns:
        The comparison as a Markdown table.

    Raises:
        InputError: if a way is unknown, the study has no labels, or an input is missing.
    """
    for way in ways:
        if way not in WAYS:
            raise InputError(f"{way}: no way to split; there are {', '.join(WAYS)}")
    params = load()
    if not params.labels:
        raise InputError(f"study {params.study} has no labels, so it has no classifier to compare splits with")
    if params.labels != ["species"]:
        told = (
            "its individuals by dataset.split_by"
            if params.labels == ["identity"]
            else "as its photographs were annotated"
        )
        raise InputError(f"study {params.study} is split {told}; only ways to split species are compared")
    study = Path("data") / params.study
    out = out or study / "comparison"
    rows = [_row(way, params, study, out / f"split_by_{way}") for way in dict.fromkeys(ways)]
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "splits.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return table_text(rows)


def _row(way: str, params: Params, study: Path, out: Path) -> dict[str, Any]:
    print(f"split by {way}", file=sys.stderr)
    given = {**asdict(params.dataset), "split_by": way}
    for name in ("low_share", "specimens", "held_out_share", "new_share"):  # of studies of taxa and of individuals
        del given[name]
    decisions, earlier = Path(given.pop("decisions")), Path(given.pop("earlier"))
    own = one_process(asdict(params.classifier))
    told: list[Any] = [given, own, asdict(params.evaluation)]
    swept = {name: getattr(params, name) for name in ("seed", "beta", "max_weight", "loss", "balance", "place")}
    told += [swept, params.shards, params.records.name_confidence]
    inputs = [study / "taxonomy.parquet", decisions, earlier, Path(params.evaluation.synonyms)]
    inputs += [study / "crops" / f"{shard}.parquet" for shard in params.shards]
    crops, table = study / "crops", out / "dataset.parquet"
    with once(out, key_of(told, inputs, ["torch", "timm", "lightning"])) as due:
        if due:
            small = (out / "held_out.csv", out / "dataset.json", out / "examples.csv")
            paths = (crops, study / "taxonomy.parquet", decisions, earlier, table, *small)
            dataset(*paths, seed=params.seed, shards=params.shards, **given)
            classifier(
                crops,
                table,
                out / "classifier",
                out / "classifier.json",
                out / "curves",
                out / "work",
                **swept,
                **own,
            )
            _judge(params, study, out)
    leakage = json.loads((out / "dataset.json").read_text(encoding="utf-8"))["leakage"][way]
    figures = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    species, genus = (figures[f"{rank}_accuracy"]["top1_micro"] for rank in ("species", "genus"))
    return {
        "split_by": way,
        **leakage,
        **{"species_top1": species["value"], "low": species["low"], "high": species["high"]},
        **{"genus_top1": genus["value"], "genus_low": genus["low"], "genus_high": genus["high"]},
    }


def _judge(params: Params, study: Path, out: Path) -> None:
    """Run the stage evaluation; another identifier's answers are for the photographs of one split only."""
    given = asdict(params.evaluation)
    for name in ("other", *_OF_INDIVIDUALS):
        del given[name]
    other = out / "other.csv"
    other.write_text(",".join(("photo_key", *TOPS)) + "\n", encoding="utf-8")
    synonyms = Path(given.pop("synonyms"))
    made = study / "crops", out / "dataset.parquet", study / "taxonomy.parquet", study / "annotations.json"
    names = ["predictions.parquet", "photographs.parquet", "evaluation.json", "classes.csv", "confusion.csv"]
    names += ["accuracy.csv", "groups.csv", "reliability.csv", "rollup.csv", "identifiers.csv"]
    given |= {"seed": params.seed, "shards": params.shards, "name_confidence": params.records.name_confidence}
    evaluation(out / "classifier", *made, other, synonyms, *(out / name for name in names), **given)


def table_text(rows: list[dict[str, Any]]) -> str:
    """The comparison as a Markdown table: what held-out crops share with training, and the accuracy claimed."""
    shared = [_WORDS.get(name, name) for name in RELATIONS]
    head = [
        "split by",
        "held-out crops",
        *(f"share {'an' if name[0] == 'o' else 'a'} {name}" for name in shared),
        "species top 1",
        "genus top 1",
    ]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        figures = [
            f"{row[f'{rank}_top1']:.3f} ({row[low]:.3f}–{row[high]:.3f})"
            for rank, low, high in (("species", "low", "high"), ("genus", "genus_low", "genus_high"))
        ]
        counts = [str(row[name]) for name in ("held_out", *RELATIONS)]
        lines.append([row["split_by"], *counts, *figures])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
