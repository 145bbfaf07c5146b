"""The command ``instar ablations``: what the variants differ in, one question a line."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from instar.ablations.names import BASE, name_of
from instar.errors import InputError
from instar.files import replacing
from instar.metrics.bootstrap import COVERAGE, COVERED_CLUSTERS, crossed_bootstrap
from instar.splits import CHOSE_EPOCH, judged_split
from instar.tables import ABLATION, DATASET, read_table

COLUMNS = ["question", "measure", "first", "second", "first_value", "second_value", "difference", "low", "high"]
COLUMNS += ["verdict", "judged", "left_out", "observations", "trainings"]
NO_VERDICT = "nothing to judge"
ONE_TRAINING = "one training"
TOO_FEW = "too few observations"
#: Fewer observations get no verdict: what 95 % intervals of so few miss shows in ``bootstrap.COVERAGE``.
LEAST_OBSERVATIONS = 10
#: A bound so near to 0 is 0 but for rounding.
ROUNDING = 1e-12

#: A variant and the place that it is given.
Side = tuple[str, str]


@dataclass(frozen=True)
class Question:
    """Two variants, or one and a coin's toss, by one measure."""

    text: str
    measure: str
    first: Side
    second: Side | None
    unit: str = "crop"


#: What is counted.
MEASURES = {
    "species": "species, top 1",
    "genus": "genus, top 1",
    "pair": "the true one first, mean over the two",
    "rare": "rare species, top 1, mean over species",
    "common": "other species, top 1",
}
#: Measures that are the mean over species; of a pair, since one answer for both is worth a half then.
OVER_SPECIES = ("pair", "rare")


def ablations(
    predictions: Path,
    dataset: Path,
    out: Path,
    out_text: Path,
    *,
    variants: list[str],
    seeds: list[int],
    base: dict[str, Any],
    resolutions: list[int],
    pair: list[str],
    rare_crops: int,
    bootstrap: int,
    early_stop: int,
    seed: int,
) -> None:
    """Set the variants against each other, each question with the difference and its 95 % interval.

    The interval resamples observations and trainings (``metrics.bootstrap.crossed_bootstrap``) of paired differences:
    of the same crop by trainings of the same seed. A difference whose interval holds 0 is not told apart. One training
    says nothing of other seeds, so it gets an interval of the observations and no verdict, and nor do fewer than ten
    observations. The intervals are not corrected for the number of questions. What the first one was not judged on,
    for want of a wrong place or of a whole photograph that can be read, is left out on both sides and counted.

    Args:
        predictions: folder of ``<variant>/<seed>.parquet``; other files in it are not read.
        dataset: table of the crops' labels and splits.
        out: gets the table as CSV.
        out_text: gets it as Markdown.
        variants: their names.
        seeds: of the trainings of each.
        base: ``loss``, ``balance``, ``place`` and ``image_px`` of the variant ``base``.
        resolutions: sides of the network's input that are variants.
        pair: two species that look alike, or none.
        rare_crops: a species with at most so many training crops is rare.
        bootstrap: number of resamples.
        early_stop: of the trainings; above 0 the table tells where the judged crops chose the weights.
        seed: of the resampling.

    Raises:
        InputError: if a table is missing or damaged, its variants were not judged on the same, or ``pair`` names a
            species that no training crop has.
    """
    rows = read_table(dataset, DATASET).to_pandas()
    counts = rows[(rows["split"] == "train") & (rows["rank"] == "species")]["label"].value_counts()
    for name in pair:
        if counts.get(name, 0) == 0:
            raise InputError(f"ablations.pair: {name} has no training crop in {dataset}; name two species that have")
    names = _names(rows)
    answers = {
        name: [read_table(predictions / name / f"{number}.parquet", ABLATION).to_pandas() for number in seeds]
        for name in variants
    }
    judge = _Judge(answers, names, set(counts.index[counts <= rare_crops]), tuple(pair), bootstrap, seed)
    wanted = questions(set(variants), base, resolutions, pair=bool(pair))
    table = pd.DataFrame([judge.row(question) for question in wanted], columns=COLUMNS)
    with replacing(out) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")
    text = table_text(table, base, rare_crops)
    if early_stop and judged_split(rows["split"]) == "validation":
        text += f"\n{CHOSE_EPOCH}\n"
    with replacing(out_text) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _names(rows: pd.DataFrame) -> pd.DataFrame:
    """Rank and genus of every label, and of the genera of all labels, by name."""
    of_labels = rows[["label", "rank", "genus"]].astype(object)
    genera = pd.DataFrame(
        {"label": rows["genus"].astype(object), "rank": "genus", "genus": rows["genus"].astype(object)}
    )
    both = pd.concat([of_labels, genera]).dropna(subset=["label"])
    return both.drop_duplicates("label").set_index("label")


def questions(variants: set[str], base: dict[str, Any], resolutions: list[int], *, pair: bool) -> list[Question]:
    """Those that these variants can answer."""
    late, fused, no_place = (name_of("place", value, base["place"]) for value in ("late", "fused", "none"))
    equal, sampler, weighted = (name_of("balance", value, base["balance"]) for value in ("none", "sampler", "loss"))
    reward, marginal, flat = (name_of("loss", value, base["loss"]) for value in ("reward", "marginal", "flat"))
    whole = name_of("view", "photograph", "crop")
    own = base["image_px"]
    found = []
    if pair:
        found += [
            Question("look-alikes, place late or no place", "pair", (late, "true"), (no_place, "none")),
            Question("look-alikes, place late: its place or none given", "pair", (late, "true"), (late, "none")),
            Question("look-alikes, place late, none given, or a coin", "pair", (late, "none"), None),
            Question("look-alikes, no place, or a coin", "pair", (no_place, "none"), None),
        ]
    for measure in ("species", "genus"):
        found += [
            Question("loss reward or flat", measure, (reward, "true"), (flat, "true")),
            Question("loss marginal or flat", measure, (marginal, "true"), (flat, "true")),
            Question("loss reward or marginal", measure, (reward, "true"), (marginal, "true")),
        ]
    for measure in ("rare", "common"):
        found += [
            Question("balance by sampler or none", measure, (sampler, "true"), (equal, "true")),
            Question("balance by loss or none", measure, (weighted, "true"), (equal, "true")),
            Question("balance by sampler or by loss", measure, (sampler, "true"), (weighted, "true")),
        ]
    found += [
        Question("place late or no place", "species", (late, "true"), (no_place, "none")),
        Question("place late, none given, or no place", "species", (late, "none"), (no_place, "none")),
        Question("place late, a wrong one or none given", "species", (late, "wrong"), (late, "none")),
        Question("place fused or late", "species", (fused, "true"), (late, "true")),
        Question("place fused or late, none given", "species", (fused, "none"), (late, "none")),
        Question("place fused or late, a wrong one given", "species", (fused, "wrong"), (late, "wrong")),
    ]
    for measure in ("species", "genus"):
        found.append(
            Question("whole photographs or crops", measure, (whole, "true"), (BASE, "true"), unit="photograph")
        )
    for image_px in resolutions:
        other = name_of("image_px", image_px, own)
        if other != BASE:
            found.append(Question(f"{image_px} or {own} px", "species", (other, "true"), (BASE, "true")))
    return [
        question for question in found if {side[0] for side in (question.first, question.second) if side} <= variants
    ]


@dataclass(frozen=True)
class _Judge:
    answers: dict[str, list[pd.DataFrame]]  # of each variant those of its trainings
    names: pd.DataFrame  # rank and genus by label
    rare: set[str]
    pair: tuple[str, ...]
    resamples: int
    seed: int

    def row(self, question: Question) -> dict[str, Any]:
        """One line of the table; figures are missing where nothing is judged."""
        first = self._values(question, question.first)
        second = first * 0 + 0.5 if question.second is None else self._values(question, question.second)
        asked = len(second)
        # not every crop has a wrong place, and not every photograph can be shown whole
        if question.first[1] == "wrong" or question.unit == "photograph":
            second = second.loc[second.index.intersection(first.index)]
        if not first.index.equals(second.index):
            raise InputError(
                f"{question.first[0]} and {question.second} were not judged on the same; delete data/<study>/ablations"
            )
        label, observation = (first.index.get_level_values(level) for level in ("label", "observation_id"))
        groups = np.asarray(label, dtype=object) if question.measure in OVER_SPECIES else None
        observations = observation.nunique()
        told = {
            "question": question.text,
            "measure": MEASURES[question.measure] + (", of photographs" if question.unit == "photograph" else ""),
            "first": _side(question.first),
            "second": _side(question.second),
            "judged": len(first),
            "left_out": asked - len(first),
            "observations": observations,
            "trainings": first.shape[1],
        }
        if not len(first):
            return {**told, "verdict": NO_VERDICT}
        values = first.to_numpy().T, second.to_numpy().T
        difference = values[0] - values[1]
        clusters = np.asarray(observation, dtype=object)
        low, high = crossed_bootstrap(difference, clusters, resamples=self.resamples, seed=self.seed, groups=groups)
        return {
            **told,
            "first_value": mean_of(values[0], groups),
            "second_value": mean_of(values[1], groups),
            "difference": mean_of(difference, groups),
            "low": low,
            "high": high,
            "verdict": verdict(low, high, trainings=first.shape[1], observations=observations),
        }

    def _values(self, question: Question, side: Side) -> pd.DataFrame:
        """1 where right and 0 where wrong, a column for each training, by key, observation and label."""
        columns = []
        for answers in self.answers[side[0]]:
            of_unit = answers[answers["unit"] == question.unit]
            # what has learnt no place answers the same with any
            place = side[1] if (of_unit["place"] == side[1]).any() or side[1] == "wrong" else "true"
            rows = of_unit[of_unit["place"] == place]
            rows = rows[self._asked(question.measure, rows["label"])]
            index = pd.MultiIndex.from_frame(rows[["key", "observation_id", "label"]])
            columns.append(pd.Series(self._right(question.measure, rows), index, dtype=float))
        table = pd.concat(columns, axis=1, keys=range(len(columns))).sort_index()
        if table.isna().to_numpy().any():
            raise InputError(f"{side[0]}: its trainings were not judged on the same; delete data/<study>/ablations")
        return table

    def _asked(self, measure: str, labels: pd.Series) -> pd.Series:
        if measure == "genus":
            return labels.map(self.names["genus"]).notna()
        species = labels.map(self.names["rank"]) == "species"
        if measure == "pair":
            return labels.isin(self.pair)
        if measure == "rare":
            return species & labels.isin(self.rare)
        return species & ~labels.isin(self.rare) if measure == "common" else species

    def _right(self, measure: str, rows: pd.DataFrame) -> list[float]:
        if measure == "genus":
            return [float(right) for right in rows["label"].map(self.names["genus"]) == rows["genus"]]
        told = zip(rows["label"], rows["top"], strict=True)
        if measure == "pair":
            return [told_apart(list(top), label, self.pair) for label, top in told]
        return [float(len(top) > 0 and top[0] == label) for label, top in told]


def told_apart(top: list[str], label: str, pair: tuple[str, ...]) -> float:
    """Whether the true one of a pair comes before the other: 1 or 0, a half where neither is among the first."""
    first = next((name for name in top if name in pair), None)
    return 0.5 if first is None else float(first == label)


def mean_of(values: np.ndarray, groups: np.ndarray | None) -> float:
    """Mean of values (n_trainings, n), or over the means of groups."""
    means = values.mean(axis=0)
    return float(means.mean() if groups is None else pd.Series(means).groupby(groups).mean().mean())


def verdict(low: float, high: float, *, trainings: int, observations: int) -> str:
    """What a difference's interval says of the first one."""
    if trainings == 1:
        return ONE_TRAINING
    if observations < LEAST_OBSERVATIONS:
        return TOO_FEW
    if low > ROUNDING:
        return "better"
    return "worse" if high < -ROUNDING else "not told apart"


def _side(side: Side | None) -> str:
    return "coin" if side is None else f"{side[0]}, {side[1]} place"


def table_text(table: pd.DataFrame, base: dict[str, Any], rare_crops: int) -> str:
    """The table in Markdown; ``base`` says what all variants but for one thing are."""
    lines = [["question", "measure", "first", "second", "difference", "the first is", "judged"], ["---"] * 7]
    for row in table.to_dict("records"):
        figures = ["", "", ""]
        if row["verdict"] != NO_VERDICT:
            figures = [f"{row['first_value']:.3f}", f"{row['second_value']:.3f}"]
            figures.append(f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})")
        judged = f"{row['judged']} of {row['observations']} observations × {row['trainings']}"
        judged += f", {row['left_out']} left out" if row["left_out"] else ""
        lines.append([row["question"], row["measure"], *figures, row["verdict"], judged])
    told = ", ".join(f"{name} {value}" for name, value in base.items())
    notes = f"But for what a line compares: {told}. Rare: at most {rare_crops} training crops. "
    notes += "A photograph without a crop counts as missed.\n\n" + _of_intervals(len(table))
    return "\n".join([*_markdown(lines), "", notes]) + "\n"


def _of_intervals(lines: int) -> str:
    """What a reader must know of the intervals before they trust them."""
    sizes = ", ".join(map(str, COVERED_CLUSTERS))
    covered = "; ".join(
        f"{', '.join(f'{share:.0%}' for share in shares)} where {what}" for what, shares in COVERAGE.items()
    )
    return (
        "Intervals of 95 % resample observations and trainings, the variance of n of either times n / (n - 1). By "
        f"simulation of normal effects with three trainings and {sizes} observations they hold the truth in {covered}. "
        f"One training and fewer than {LEAST_OBSERVATIONS} observations get no verdict. The table has {lines} lines "
        "and no interval is corrected for their number: were there no difference at all, about one line in ten would "
        "still show one."
    )


def _markdown(lines: list[list[str]]) -> Iterator[str]:
    for line in lines:
        yield "| " + " | ".join(line) + " |"
