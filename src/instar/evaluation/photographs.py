"""Whole photographs of held-out observations: the answers for their animals, summed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from instar.annotations import read_annotations
from instar.classifier.labels import RANKS
from instar.evaluation.answers import BATCH, Answers, Truth, best_of, joined, pixels_of, without_answer
from instar.evaluation.calibrated import UNCALIBRATED, Temperatures
from instar.splits import id_hash, stable_hash
from instar.tables import CROPS, DATASET, TAXONOMY, read_batches, read_table

if TYPE_CHECKING:
    from instar.classifier.labels import LabelSpace
    from instar.classifier.predict import Predictor

NO_LABEL = "named neither to species nor to genus"
NO_CLASS = "no class of the classifier"
#: Reasons of the stage dataset that are about a whole photograph, not about one crop of it.
OF_PHOTOGRAPHS = ("licence not allowed", "near-duplicates with different labels", "near-duplicate")
#: The same of a crop; a photograph all of whose crops have it is left out, too.
REJECTED = "rejected in review"
#: The same of whole observations, which the stage dataset set aside.
OF_OBSERVATIONS = ("of a held-out observer", "held out earlier", "near-duplicate of one held out earlier")
TWO_LABELS = "crops of two labels"
#: By the split of the annotated photographs, which is another than the dataset's.
OF_DETECTOR = {"train": "annotated to train a detector", "validation": "annotated to choose a detector's weights"}
#: How the crops' tables call detectors that learn nothing, or how these names begin (``detectors.UNTRAINED``).
UNTRAINED = ("whole_image", "grounding_dino_sam", "florence2_sam", "gemini_sam", "watershed")

_COLUMNS = ["photo_key", "key", "reason", "score", "observation_id", "taxon_id", "latitude", "longitude"]
_COLUMNS += ["shard", "offset", "size", "detector"]


@dataclass(frozen=True)
class HeldOut:
    """Photographs to judge.

    Attributes:
        photographs: ``photo_key``, ``observation_id``, ``label``, ``latitude`` and ``longitude`` of each, by key.
        crops: their best crops, grouped by photograph in the same order: columns of the crops' tables, and
            ``photograph``, its place among the photographs.
        dropped: photographs that cannot be judged, by reason.
        keys: of all of them.
        labels: the classes.
        no_class: those dropped since their label is no class, to be compared with another identifier: the answers for
            them may be of the right genus.
    """

    photographs: pd.DataFrame
    crops: pd.DataFrame
    dropped: dict[str, int]
    keys: frozenset[str]
    labels: "LabelSpace"
    no_class: "HeldOut | None" = None

    @property
    def truth(self) -> Truth:
        """What is known of the photographs."""
        observations = self.photographs["observation_id"].to_numpy(dtype=object)
        return Truth(self.labels, self.labels.targets(self.photographs["label"]), observations)

    @property
    def told(self) -> str:
        """Why photographs are left out, with numbers."""
        return ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.items()) or "none is held out"

    def of_keys(self, keys: set[str]) -> "HeldOut":
        """Those of the photographs that have one of these keys."""
        wanted = self.photographs["photo_key"].isin(keys).to_numpy()
        crops = self.crops[wanted[self.crops["photograph"]]]
        crops = crops.assign(photograph=(np.cumsum(wanted) - 1)[crops["photograph"]])
        return HeldOut(self.photographs[wanted], crops, {}, frozenset(), self.labels)

    @property
    def crops_used(self) -> np.ndarray:
        """int64, shape (n_photographs,): 0 where nothing was found."""
        return np.bincount(self.crops["photograph"], minlength=len(self.photographs))


def held_out(
    crops: Path,
    dataset: Path,
    taxonomy: Path,
    annotations: Path,
    observations: set[str],
    labels: "LabelSpace",
    *,
    shards: list[str],
    seed: int,
    boxes: int,
) -> HeldOut:
    """Every photograph of the held-out observations, also those on which nothing was found.

    Where the stage dataset has crops of a photograph, its label is theirs, and those rejected in review do not count.

    An observation without any crop, or with none that the stage dataset kept, is in no split, and to leave all of them
    out would flatter the detector. So each of these is taken with the chance that an observation of its taxon had to be
    held out.

    What is judged is detector and classifier together, so no photograph counts that was annotated to train the detector
    or to choose its weights, nor if the detector was trained elsewhere, since it may have been on the same ones. Single
    crops of such photographs are judged all the same: their figures are the classifier's, which learnt from none of
    them, and the detector decides only which crops there are and where their edges lie.

    Args:
        crops: folder of their tables.
        dataset: table of labels and splits.
        taxonomy: names of the taxa.
        annotations: COCO JSON with a split for each annotated photograph.
        observations: ids of the held-out ones.
        labels: the classes.
        shards: names of the shards.
        seed: of the draw.
        boxes: crops taken of a photograph, those with the highest scores.

    Raises:
        InputError: if a table or the annotations are missing or damaged.
    """
    paths = [crops / f"{shard}.parquet" for shard in shards]
    in_split, settled = _settled(dataset)
    chances = _chances(paths, {id_hash(name) for name in observations}, in_split)
    rows = pd.concat([_rows(path, observations, chances, settled, seed) for path in paths], ignore_index=True)
    photographs = rows.drop_duplicates("photo_key").sort_values("photo_key").set_index("photo_key")
    taxa = read_table(taxonomy, TAXONOMY).to_pandas().set_index("taxon_id")
    ranked = taxa.loc[taxa["rank"].isin(["species", "genus"]), "name"]
    told = _told(dataset, photographs.index)
    label = told["label"].fillna(photographs["taxon_id"].map(ranked))
    reason = told["reason"].fillna(_of_detector(annotations, photographs["detector"]))
    reason = reason.mask(reason.isna() & label.isna(), NO_LABEL)
    reason = reason.mask(reason.isna() & ~label.isin(labels.names), NO_CLASS)
    dropped = {str(name): int(count) for name, count in reason.value_counts().sort_index().items()}
    cut = rows[rows["reason"].isna()]
    cut = cut[~cut["key"].isin([key for keys in told["rejected"] for key in keys])]
    labelled = photographs.assign(label=label)[["observation_id", "label", "latitude", "longitude"]]
    no_class = HeldOut(*_with_crops(labelled[reason == NO_CLASS], cut, boxes), {}, frozenset(), labels)
    kept = _with_crops(labelled[reason.isna()], cut, boxes)
    return HeldOut(*kept, dropped, frozenset(photographs.index), labels, no_class)


def _with_crops(photographs: pd.DataFrame, cut: pd.DataFrame, boxes: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Photographs, given by key, and the best of all crops that are theirs, as ``HeldOut`` has them."""
    cut = cut[cut["photo_key"].isin(photographs.index)]
    cut = cut.sort_values(["photo_key", "score", "key"], ascending=[True, False, True])
    cut = cut[cut.groupby("photo_key").cumcount() < boxes].reset_index(drop=True)
    return photographs.reset_index(), cut.assign(photograph=photographs.index.get_indexer(pd.Index(cut["photo_key"])))


def _of_detector(annotations: Path, detector: pd.Series) -> pd.Series:
    """What the detector made of each photograph in its training, by key; missing where nothing.

    Args:
        annotations: COCO JSON.
        detector: name of each photograph's, by key.
    """
    used = learnt_by_detector(annotations)
    found = [used.get(key) for key in detector.index]
    return pd.Series(found, detector.index, dtype=object).mask(detector.astype(str).str.startswith(UNTRAINED))


def learnt_by_detector(annotations: Path) -> dict[str, str]:
    """Annotated photographs that are to train a detector or to choose its weights, by key, with which of both."""
    photographs, _ = read_annotations(annotations)
    return {one.key: OF_DETECTOR[one.split] for one in photographs if one.split in OF_DETECTOR}


def of_study(crops: Path, shards: list[str], keys: set[str]) -> frozenset[str]:
    """Those of the keys that are photographs of the study."""
    wanted, found = pa.array(sorted(keys), pa.string()), set()
    for shard in shards:
        for batch in read_batches(crops / f"{shard}.parquet", CROPS, ["photo_key"]):
            column = batch["photo_key"].cast(pa.string())
            found.update(column.filter(pc.is_in(column, value_set=wanted)).to_pylist())
    return frozenset(found)


def _settled(dataset: Path) -> tuple[np.ndarray, np.ndarray]:
    """Hashes, uint64 and unique, of the observations with a crop in a split, and of these and those set aside."""
    empty = np.empty(0, np.uint64)
    in_split, aside = [empty], [empty]
    for batch in read_batches(dataset, DATASET, ["observation_id", "split", "reason"]):
        table = pa.table(batch)
        for found, kept in (
            (in_split, pc.is_valid(table["split"])),
            (aside, pc.is_in(table["reason"].cast(pa.string()), value_set=pa.array(OF_OBSERVATIONS))),
        ):
            names = table.filter(kept)["observation_id"].unique().to_pylist()
            found.append(np.array([id_hash(name) for name in names], np.uint64))
    first = np.unique(np.concatenate(in_split))
    return first, np.union1d(first, np.concatenate(aside))


def _chances(paths: list[Path], held_out: set[int], in_split: np.ndarray) -> dict[str, float]:
    """The share of each taxon's observations with a crop in a split that is held out."""
    codes: dict[str | None, int] = {}
    found = [pd.DataFrame({"taxon": np.empty(0, np.int64), "observation": np.empty(0, np.uint64)})]
    for path in paths:
        for batch in read_batches(path, CROPS, ["reason", "taxon_id", "observation_hash"]):
            cut = pa.table(batch).filter(pc.is_null(batch["reason"]))
            few = cut.group_by(["taxon_id", "observation_hash"]).aggregate([])
            taxon = [codes.setdefault(name, len(codes)) for name in few["taxon_id"].to_pylist()]
            found.append(pd.DataFrame({"taxon": taxon, "observation": few["observation_hash"].to_numpy()}))
    pairs = pd.concat(found, ignore_index=True).drop_duplicates()
    pairs = pairs[np.isin(pairs["observation"].to_numpy(), in_split)]
    shares = pairs["observation"].isin(held_out).groupby(pairs["taxon"]).mean().to_dict()
    return {name: float(shares[code]) for name, code in codes.items() if name is not None and code in shares}


def _rows(
    path: Path, observations: set[str], chances: Mapping[str, float], settled: np.ndarray, seed: int
) -> pd.DataFrame:
    """Rows of one shard that are of held-out photographs."""
    wanted = pa.array(sorted(observations), pa.string())
    schema = pa.schema([CROPS.field(name) for name in [*_COLUMNS, "observation_hash"]])
    kept = [schema.empty_table()]
    for batch in read_batches(path, CROPS, schema.names):
        table = pa.table(batch).cast(schema)
        without = ~np.isin(table["observation_hash"].to_numpy(), settled)
        drawn = [
            stable_hash(seed, row["observation_id"]) / 2.0**64 < chances.get(row["taxon_id"], 0.0)
            for row in table.filter(pa.array(without)).select(["observation_id", "taxon_id"]).to_pylist()
        ]
        taken = pc.is_in(table["observation_id"], value_set=wanted).to_numpy()
        taken[np.flatnonzero(without)] |= np.array(drawn, dtype=bool)
        kept.append(table.filter(pa.array(taken)))
    return pa.concat_tables(kept).select(_COLUMNS).to_pandas()


def _told(dataset: Path, keys: pd.Index) -> pd.DataFrame:
    """What the stage dataset, with its review, says of photographs.

    Returns:
        By key, in their order: ``label`` of their crops, ``reason`` to leave them out, both empty where there is none,
        and the keys of the ``rejected`` crops.
    """
    wanted = pa.array(keys, pa.string())
    schema = pa.schema([DATASET.field(name) for name in ("photo_key", "key", "label", "reason")])
    parts = [schema.empty_table()]
    for batch in read_batches(dataset, DATASET, schema.names):
        table = pa.table(batch).cast(schema)  # texts may be dictionaries
        parts.append(table.filter(pc.is_in(table["photo_key"], value_set=wanted)))
    rows = pa.concat_tables(parts).to_pandas().astype(object)
    is_rejected = rows["reason"] == REJECTED
    rejected = rows[is_rejected].groupby("photo_key")["key"].agg(list)
    others = rows[~is_rejected]
    labels = others.groupby("photo_key")["label"].agg(["first", "nunique"])
    whole = rows[rows["reason"].isin(OF_PHOTOGRAPHS)].groupby("photo_key")["reason"].last()
    found = pd.DataFrame({"label": labels["first"].reindex(keys), "reason": whole.reindex(keys)}, dtype=object)
    all_rejected = keys.isin(rejected.index) & ~keys.isin(labels.index)
    two = keys.isin(labels.index[labels["nunique"] > 1])
    found["reason"] = found["reason"].mask(found["reason"].isna() & all_rejected, REJECTED)
    found["reason"] = found["reason"].mask(found["reason"].isna() & two, TWO_LABELS)
    found["rejected"] = [rejected.get(key, []) for key in keys]
    return found


def answers_of(
    predictor: "Predictor", crops: Path, given: HeldOut, temperatures: Temperatures = UNCALIBRATED
) -> Answers:
    """Sum the node probabilities of each photograph's crops and rank the sums.

    Args:
        predictor: the classifier.
        crops: folder of the crops' shards.
        given: the photographs.
        temperatures: those of their observations divide the logits.

    Returns:
        Answers for all photographs, without one where there is no crop; probabilities are means over the crops.
    """
    at, counts = np.unique(given.crops["photograph"], return_counts=True)
    temperature = temperatures.of(given.crops["observation_id"].to_numpy(dtype=object)).astype(np.float32)
    parts = _means(predictor, crops, given.crops, counts, temperature)
    return without_answer(joined(parts, predictor.labels), len(given.photographs), at)


def _means(
    predictor: "Predictor", crops: Path, rows: pd.DataFrame, counts: np.ndarray, temperature: np.ndarray
) -> Iterator[Answers]:
    """The best of the mean probabilities, a few photographs at a time, as they are finished."""
    from torch import from_numpy

    from instar.classifier.data import places_of

    places = places_of(rows)
    means: list[np.ndarray] = []
    total = np.zeros(len(predictor.labels))
    left, done = 0, 0
    for part, pixels in pixels_of(predictor, crops, rows, "evaluation of photographs"):
        logits = predictor.logits(pixels, from_numpy(places[part])).cpu() / from_numpy(temperature[part, None])
        for nodes in predictor.nodes(logits).cpu().numpy():
            left = left or int(counts[done])
            total += nodes
            left -= 1
            if left == 0:
                means.append((total / counts[done]).astype(np.float32))
                total[:] = 0
                done += 1
        if len(means) >= BATCH:
            yield best_of(np.stack(means), predictor.labels)
            means = []
    if means:
        yield best_of(np.stack(means), predictor.labels)


def species_of(given: HeldOut, found: Answers) -> list[list[str]]:
    """The best species of each photograph, best first; none where nothing was found."""
    names = given.labels.names
    answers = zip(found["species"].classes, given.crops_used, strict=True)
    return [[names[place] for place in row] if used else [] for row, used in answers]


def rows_of(given: HeldOut, found: Answers) -> Iterator[dict[str, Any]]:
    """Rows of ``tables.PHOTOGRAPHS``."""
    truth = given.truth
    names, genera, used = truth.labels.names, truth.of_rank("genus"), given.crops_used
    species, genus = found["species"], found["genus"]
    columns = (given.photographs["photo_key"], given.photographs["label"], species_of(given, found))
    for index, (key, label, top) in enumerate(zip(*columns, strict=True)):
        answered = used[index] > 0
        yield {
            "key": key,
            "label": label,
            "genus": names[genera[index]] if genera[index] >= 0 else None,
            "top": top,
            "probability": species.probabilities[index].tolist() if answered else [],
            "top_genus": [names[place] for place in genus.classes[index]] if answered else [],
            "crops": int(used[index]),
        }


def figures_of(given: HeldOut, found: Answers, *, resamples: int, seed: int) -> dict[str, Any]:
    """The account of the photographs and how often they are named right; a missed one is wrong."""
    judged = len(given.photographs)
    return {
        "rows": {"in": judged + sum(given.dropped.values()), "out": judged, "dropped": given.dropped},
        "observations": int(given.photographs["observation_id"].nunique()),
        "missed": int((given.crops_used == 0).sum()),
        "crops": len(given.crops),
        **{f"{rank}_accuracy": given.truth.accuracies(found, rank, resamples=resamples, seed=seed) for rank in RANKS},
    }
