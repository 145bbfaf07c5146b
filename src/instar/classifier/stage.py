"""The stage ``classifier``."""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

import instar
from instar.balance import effective_number_weights
from instar.classifier.labels import INDIVIDUAL, NO_MIXTURES, RANKS, label_space, mixed_targets
from instar.errors import InputError
from instar.files import md5_of, replacing, sha256_of, write_json
from instar.lineages import TAXON_RANKS
from instar.splits import judged_split
from instar.tables import (
    CROPS,
    DATASET,
    IDENTITY_DATASET,
    TAXA_DATASET,
    is_by_individual,
    is_by_taxon,
    read_batches,
)
from instar.unfinished import unfinished

if TYPE_CHECKING:
    from instar.classifier.train import Epoch

JUDGED_CHOOSE = (
    "classifier.keep chooses the weights by the validation crops, which evaluation judges, too, so that its figures "
    "will be somewhat too good; dataset.test_crops, or of individuals dataset.split_by, makes a split that is apart"
)
#: A file of this name stands for no file of weights.
NO_WEIGHTS = "none.md"


def classifier(
    crops: Path,
    dataset: Path,
    out: Path,
    out_metrics: Path,
    out_curves: Path,
    work: Path,
    *,
    seed: int,
    beta: float,
    max_weight: float,
    loss: str,
    balance: str,
    place: str,
    model: str,
    pretrained: bool,
    weights: str,
    image_px: int,
    embedding: int,
    margin: float,
    scale: float,
    of_each: int,
    epochs: int,
    batch: int,
    accumulate: int,
    learning_rate: float,
    weight_decay: float,
    layer_decay: float,
    frozen_epochs: int,
    cache_features: bool,
    schedule: str,
    warmup: float,
    ema: float,
    early_stop: int,
    keep: str,
    label_smoothing: float,
    place_noise_deg: float,
    place_drop: float,
    crop_scale: float,
    flip: str,
    rotation_deg: float,
    auto_augment: bool,
    colour: float,
    erasing: float,
    mixup: float,
    cutmix: float,
    precision: str,
    compile: bool,
    devices: int,
    workers: int,
) -> None:
    """Train a classifier of species and their genera, of taxa from family to class, or of individuals.

    A training that was interrupted goes on where its last checkpoint was written. Of individuals, held-out ones that
    nothing trains from are left out of the validation.

    Args:
        crops: folder of ``<shard>.tar`` and ``<shard>.parquet`` with the crops.
        dataset: table of their labels and splits.
        out: folder; gets ``weights.safetensors`` and ``classifier.json``, which says how to use them.
        out_metrics: gets the losses, the top-1 on validation and the sizes, as JSON.
        out_curves: folder; gets the curves of training for ``dvc plots``.
        work: folder of unfinished trainings and features, each below a hash of all that it depends on; the curves so
            far of one that runs or was stopped are in ``unfinished/<hash>/curves``.
        seed: of the weights, the order of the crops and their views.
        beta: of the effective number of samples; 0 gives equal class weights.
        max_weight: no class weighs more than this multiple of the lightest.
        loss: how the hierarchy is learnt, reward, marginal or flat, or individuals: flat, arcface or triplet.
        balance: where the weights of classes go, none, sampler or loss.
        place: what the network makes of a photograph's place, none, late or fused.
        model: name of a timm model.
        pretrained: start from the published weights.
        weights: file of the backbone's weights to start from; one that is called none.md stands for none.
        image_px: side of the network's input.
        embedding: width of a layer that individuals are compared by; 0 for the backbone's features.
        margin: arcface's, radians, or the triplets', a distance.
        scale: arcface and triplet: of the cosines that the logits are.
        of_each: crops of one class in a batch; 0 for no regard.
        epochs: passes over the training crops.
        batch: crops in a step, for each device.
        accumulate: batches whose gradients make one step.
        learning_rate: of AdamW at its height.
        weight_decay: of AdamW.
        layer_decay: the learning rate of a layer of the backbone as a share of the next one's.
        frozen_epochs: first epochs in which only head and place learn.
        cache_features: in these, show whole crops and their mirror images, whose features are worked out once.
        schedule: of the learning rate's fall, cosine or linear.
        warmup: share of the steps in which the learning rate rises.
        ema: decay of the moving average of the weights, which rises to it with the steps; 0 for none.
        early_stop: epochs without a better one, as ``keep`` judges, that end the training; 0 for none.
        keep: which epoch's weights are kept, last, best_top1 or best_both.
        label_smoothing: share of the target spread over all classes.
        place_noise_deg: by which training moves places at most.
        place_drop: probability that training shows no place.
        crop_scale: least share of a crop that training shows.
        flip: mirroring in training, none, horizontal or both.
        rotation_deg: by which training turns crops at most.
        auto_augment: change each view by AutoAugment's policies.
        colour: strength of changes of colour, in [0, 1].
        erasing: probability that a part of a crop is erased.
        mixup: alpha of MixUp; 0 for none.
        cutmix: alpha of CutMix; 0 for none.
        precision: auto, float32 or bfloat16.
        compile: torch.compile the backbone.
        devices: GPUs, or processes where there is none; 0 for all GPUs.
        workers: processes that load crops, for each device.

    Raises:
        InputError: if timm does not know the model, its weights can't be had, fewer than two classes are to be learnt,
            a crop can't be read, memory is short, or the loss stops being a number.
    """
    given = dict(locals())
    from lightning import seed_everything
    from torch import from_numpy

    from instar.classifier.data import CropReader, Shown, Views, places_of
    from instar.classifier.features import Features, cached_features
    from instar.classifier.fit import Feed, fit, machine, write_curves
    from instar.classifier.model import Description, build_network, check_model, normalisation, quiet_timm, save
    from instar.classifier.place import bounding_box
    from instar.classifier.train import Learner, Recipe

    quiet_timm()
    check_model(model)
    rows = _rows_of(dataset)
    by_taxon, by_individual = TAXON_RANKS[0] in rows, INDIVIDUAL in rows
    new = rows["is_new"].fillna(False).astype(bool) if by_individual else False
    train, validation = (rows[(rows["split"] == split) & ~np.asarray(new)] for split in ("train", "validation"))
    ranks = TAXON_RANKS if by_taxon else (INDIVIDUAL,) if by_individual else RANKS
    labels = label_space(_with_low(train) if by_taxon else train, ranks)
    if len(labels.leaves) < 2:
        remedy = "photograph more individuals" if by_individual else "lower dataset.min_class_crops"
        raise InputError(f"{dataset}: classes: {len(labels.leaves)}, a classifier needs two; {remedy}")
    if unknown := sorted(set(validation["label"]) - set(labels.names)):
        raise InputError(f"{dataset}: {unknown[0]} is held out and has no training crop; raise dataset.min_class_crops")
    targets = labels.targets(train["label"])
    learnt, mixtures = targets, NO_MIXTURES
    if by_taxon:
        learnt, mixtures = mixed_targets(labels, train["label"], _low_names(train), train["low_share"])
    counts = np.bincount(targets, minlength=len(labels))
    of_classes = class_weights(counts, beta=beta, max_weight=max_weight)
    own = None if Path(weights).name == NO_WEIGHTS else Path(weights)
    own_sha256 = _file_sha256(own)
    mean, std = normalisation(model)
    about, places = _crops(crops, train), places_of(train)
    crops_sha256 = sha256_of_texts(about["sha256"])
    description = Description(
        model=model,
        pretrained=pretrained,
        image_px=image_px,
        mean=mean,
        std=std,
        loss=loss,
        place=place,
        labels=labels,
        train_crops=tuple(int(count) for count in counts),
        train_crops_with_place=int((~np.isnan(places).any(axis=1)).sum()),
        train_box=bounding_box(places),
        early_stop=early_stop,
        licences={str(name): int(count) for name, count in about["licence"].value_counts().sort_index().items()},
        dataset_md5=md5_of(dataset),
        code_sha256=_code(),
        instar=instar.__version__,
        embedding=embedding,
        scale=scale if loss in ("arcface", "triplet") else 0.0,
        keep=keep,
        weights_sha256=own_sha256,
    )
    recipe = Recipe(**{field.name: given[field.name] for field in fields(Recipe)})
    shown = Shown(**{field.name: given[field.name] for field in fields(Shown)})

    def views(part: pd.DataFrame, part_shown: Shown | None) -> Views:
        reader = CropReader(crops, part)
        part_targets = learnt if part is train else labels.targets(part["label"])
        return Views(reader, part_targets, places_of(part), image_px, shown=part_shown)

    if keep != "last" and len(validation) and judged_split(rows["split"]) == "validation" and _first():
        print(f"classifier: {JUDGED_CHOOSE}", file=sys.stderr)
    seed_everything(seed, verbose=False)
    network = build_network(description, own)
    in_loss = of_classes if balance == "loss" else np.ones(len(labels))
    learner = Learner(network, description, recipe, from_numpy(in_loss), label_smoothing, mixtures)
    frozen = None
    if cache_features and frozen_epochs:
        whole = views(train, None)
        kept = cached_features(
            work / "features",
            network.backbone,
            description,
            whole,
            crops_sha256,
            flip=flip,
            batch=batch,
            precision=machine(devices, precision)[2],
        )
        frozen = Features(kept, learnt, places, shown)
    feed = Feed(
        learner,
        views(train, shown),
        frozen,
        views(validation, None) if len(validation) else None,
        count=len(train),
        weights=of_classes[targets] if balance == "sampler" else None,
        groups=targets,
        workers=workers,
    )
    told = {name: value for name, value in given.items() if not isinstance(value, Path)}
    told["weights"], told["machine"] = own_sha256, machine(devices, precision)
    key = _key([told, description.dataset_md5, crops_sha256])
    with _alone(work / "unfinished", key) as folder:
        history = fit(learner, feed, folder)
    if not learner.trainer.is_global_zero:
        return
    with replacing(out) as folder:
        folder.mkdir()
        save(folder, network, description)
    write_curves(out_curves, history)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    figures = {**_rows(rows), **_figures(history, keep), "classes": len(labels), "parameters": parameters}
    if by_individual:
        figures["table"] = _table(history)
    write_json(out_metrics, figures)


def class_weights(counts: np.ndarray, *, beta: float, max_weight: float) -> np.ndarray:
    """``effective_number_weights`` of the classes that have crops; 0 for the others, which are never drawn."""
    weights = np.zeros(len(counts))
    weights[counts > 0] = effective_number_weights(counts[counts > 0], beta=beta, max_weight=max_weight)
    return weights


def _rows_of(dataset: Path) -> pd.DataFrame:
    """The dataset's rows with the columns that training reads, their texts kept as Arrow's, which take a third.

    Of individuals the label is also in a column that is called like its rank.
    """
    columns = ["key", "shard", "offset", "size", "label", "rank"]
    by_individual = is_by_individual(dataset)
    whole = IDENTITY_DATASET if by_individual else TAXA_DATASET if is_by_taxon(dataset) else DATASET
    further = {TAXA_DATASET: [*TAXON_RANKS, "low", "low_share"], IDENTITY_DATASET: ["is_new"]}
    columns += further.get(whole, list(RANKS))
    columns += ["latitude", "longitude", "split"]
    schema = pa.schema([whole.field(name) for name in columns])
    found = _frame(read_batches(dataset, whole, columns), schema)
    return found.assign(**{INDIVIDUAL: found["label"]}) if by_individual else found


def _low_names(rows: pd.DataFrame) -> list[list[str]]:
    """Names of the classes that each row may be of besides its label: the lowest of each lineage."""
    return [[next(name for name in lineage if name) for lineage in low] for low in rows["low"]]


def _with_low(train: pd.DataFrame) -> pd.DataFrame:
    """The ranks of the training rows and, as rows of their own, of the classes that they may be of besides."""
    lineages = sorted({tuple(lineage) for low in train["low"] for lineage in low}, key=repr)
    further = pd.DataFrame(lineages, columns=list(TAXON_RANKS), dtype=object)
    places = [next(place for place, name in enumerate(lineage) if name) for lineage in lineages]
    further["rank"] = [TAXON_RANKS[place] for place in places]
    columns = ["rank", *TAXON_RANKS]
    return pd.concat([train[columns].astype(object), further[columns].astype(object)], ignore_index=True)


def _crops(crops: Path, train: pd.DataFrame) -> pd.DataFrame:
    """``licence`` and ``sha256`` of the training crops, in their order."""
    columns = ["key", "licence", "sha256"]
    batches = (
        batch.filter(batch.column("key").is_valid())
        for shard in sorted(set(train["shard"]))
        for batch in read_batches(crops / f"{shard}.parquet", CROPS, columns)
    )
    found = _frame(batches, pa.schema([CROPS.field(name) for name in columns]))
    return found.set_index("key").loc[train["key"]]


def _frame(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pd.DataFrame:
    tables = [pa.Table.from_batches([batch]).cast(schema) for batch in batches]
    texts = {pa.string(): pd.ArrowDtype(pa.string())}
    found: pd.DataFrame = pa.concat_tables([schema.empty_table(), *tables]).to_pandas(types_mapper=texts.get)
    return found


def sha256_of_texts(texts: Iterable[str]) -> str:
    """sha256 of texts in their order, one by one, since millions of them together are as large as a network."""
    found = hashlib.sha256()
    for text in texts:
        found.update(f"{text}\n".encode())
    return found.hexdigest()


def _file_sha256(path: Path | None) -> str:
    """Of a file of weights, empty for none.

    Raises:
        InputError: if it is missing.
    """
    if path is None:
        return ""
    if not path.is_file():
        raise InputError(f"classifier.weights = {path}: no such file; put it there or name another")
    return sha256_of(path)


def _code() -> str:
    """sha256 of the source that decides what is learnt."""
    package = Path(__file__).parent
    sources = [*sorted(package.glob("*.py")), package.with_name("balance.py"), package.with_name("shards.py")]
    return sha256_of_texts(sha256_of(path) for path in sources)


def _key(told: Any) -> str:
    """sha256 of all that a training depends on, this code, the machine and the libraries' versions included."""
    libraries = [version(library) for library in ("lightning", "opencv-python-headless", "timm", "torch")]
    return hashlib.sha256(json.dumps([told, _code(), libraries]).encode()).hexdigest()


@contextmanager
def _alone(root: Path, key: str) -> Iterator[Path]:
    """``unfinished`` for the first of several processes at one training; the others share its folder."""
    if _first():
        with unfinished(root, key) as folder:
            yield folder
    else:
        yield root / key


def _first() -> bool:
    """Whether this is the first of several processes at one training."""
    return not int(os.environ.get("LOCAL_RANK", "0"))


def _rows(rows: pd.DataFrame) -> dict[str, Any]:
    dropped = {"dropped by dataset": int(rows["split"].isna().sum())}
    if INDIVIDUAL in rows:
        new = rows["is_new"].fillna(False).astype(bool)
        dropped |= {"query": int((rows["split"] == "query").sum()), "new individual": int(new.sum())}
        rows = rows[~new & (rows["split"] != "query").fillna(True)]
    splits = rows["split"].value_counts()
    taken = int(splits.sum())
    return {
        "rows": {"in": taken + sum(dropped.values()), "out": taken, "dropped": dropped},
        "train_crops": int(splits.get("train", 0)),
        "validation_crops": int(splits.get("validation", 0)),
    }


def _table(history: list["Epoch"]) -> list[dict[str, Any]]:
    """A row for each epoch, as the report of AnimalCLEF25 has it."""
    return [
        {
            "epoch": number,
            "train_loss": _rounded(epoch.train_loss),
            "validation_loss": None if epoch.validation_loss is None else _rounded(epoch.validation_loss),
            "validation_accuracy": None if epoch.validation_top1 is None else _rounded(epoch.validation_top1),
            "learning_rate": _rounded(epoch.learning_rate),
        }
        for number, epoch in enumerate(history, 1)
    ]


def _figures(history: list["Epoch"], keep: str) -> dict[str, Any]:
    from instar.classifier.train import kept_epoch

    last = history[-1]
    figures: dict[str, Any] = {"epochs": len(history), "steps": last.step, "train_loss": _rounded(last.train_loss)}
    if last.validation_loss is None or last.validation_top1 is None:
        return figures
    best = kept_epoch(history, "best_top1" if keep == "last" else keep)
    return {
        **figures,
        "validation_loss": _rounded(last.validation_loss),
        "validation_top1": _rounded(last.validation_top1),
        "best_epoch": best + 1,
        "best_validation_top1": _rounded(history[best].validation_top1 or 0.0),
    }


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
