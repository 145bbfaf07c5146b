"""The parameters: every key of params.yaml described once, with its type, unit and range.

``params.yaml`` is what runs. ``load`` is the only reader: an unknown or missing key, a wrong type or a value out of
range stops everything before the first job.
"""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from instar.errors import InputError
from instar.extent import extent_problems
from instar.licences import LICENCES

PATH = Path("params.yaml")
#: Losses of species or taxa, of which flat learns individuals, too; and those of individuals alone.
HIERARCHY_LOSSES, IDENTITY_LOSSES = ("reward", "marginal", "flat"), ("arcface", "triplet")
_NAME = r"[A-Za-z0-9_-]+"


def _key(
    help: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    choices: tuple[str, ...] | None = None,
    pattern: str | None = None,
) -> Any:
    """A required key: what it means and which values it may hold (each of them, where the key is a list)."""
    limits = {"ge": ge, "gt": gt, "le": le, "lt": lt, "choices": choices, "pattern": pattern}
    return field(default=MISSING, metadata={"help": help, **limits})


@dataclass
class Records:
    kind: str = _key("what the source is", choices=("world", "tables", "folder", "trays", "individuals"))
    source: str = _key(
        "the source: a description to draw from, a folder of downloaded tables, of photographs, of trays or of "
        "individuals"
    )
    taxon: str = _key("name of the taxon whose descendants are taken; empty for all")
    licences: list[str] = _key("licences whose photographs may be used", choices=LICENCES)
    quality_grades: list[str] = _key("iNaturalist grades taken", choices=("research", "needs_id", "casual"))
    photo_size: str = _key(
        "of iNaturalist's photographs: up to 2048, 1024 or 500 px long", choices=("original", "large", "medium")
    )
    bbox: list[float] = _key("west, south, east, north in degrees; west above east crosses 180°; [] for all")
    observed_from: str = _key("first day of observation, as 2024-05-31; empty for all")
    observed_to: str = _key("last day of observation, likewise")
    max_per_species: int = _key("photographs kept of a species, whole observations drawn by the seed; 0 for all", ge=0)
    name_confidence: int = _key("of an answer of GBIF's backbone, percent; one with less is no match", ge=0, le=100)
    annotation_split: str = _key(
        "how annotated photographs are split", choices=("observation", "photograph", "time_block", "given")
    )
    annotation_faults: str = _key(
        "what happens to an annotated photograph with a wrong label; of trays leave_out leaves out the outline, and "
        "the photograph where a whole sub-image is lost or no outline can be used",
        choices=("refuse", "leave_out"),
    )
    annotation_validation_share: float = _key("of the annotated photographs, for validation", gt=0, lt=1)
    annotation_test_share: float = _key("of the annotated photographs, held out for the figures", gt=0, lt=1)
    annotation_gap_s: float = _key("time_block: seconds dropped at each border between two blocks", ge=0)
    partition: str = _key("given: table of trays' photographs and splits, the rest is for training; a header for none")
    outline_categories: list[str] = _key("categories of trays' outlines that are animals; [] for all")
    min_mask_px: int = _key("trays' masks of fewer pixels are dropped", ge=1)
    tray_margin_px: int = _key("around the animals of a tray, within which it is searched, pixels", ge=0)


@dataclass
class Images:
    mirror: bool = _key("read photographs from the mirror below the study's source folder, not from the network")
    connections: int = _key("photographs fetched at the same time", ge=1, le=256)
    timeout_s: float = _key("for one photograph, seconds", gt=0)
    stall_s: float = _key("without a byte, after which a try has failed, seconds", gt=0)
    attempts: int = _key("tries for one photograph where the answer may get better", ge=1, le=20)
    max_photo_mb: float = _key("a larger answer is refused, megabytes", gt=0)
    requests_per_s: float = _key("to one host, over all jobs", gt=0)
    gb_per_hour: float = _key("from one host, over all jobs, gigabytes; iNaturalist allows 5", ge=0.001)
    gb_per_day: float = _key("the same for a day; iNaturalist allows 24", ge=0.001)
    unlimited_hosts: list[str] = _key("hosts without the last three limits: open-data buckets", pattern=r"[a-z0-9.-]+")


@dataclass
class Detector:
    family: str = _key(
        "which detector; whole_image (one box, the whole photograph) and those behind it need no training",
        choices=(
            *("yolo", "rfdetr", "maskrcnn", "mask2former"),
            *("whole_image", "grounding_dino_sam", "florence2_sam", "gemini_sam", "watershed"),
        ),
    )
    model: str = _key(
        "the family's own name of an architecture: a yaml of ultralytics, a class of rfdetr, maskrcnn_resnet50_fpn, "
        "mask2former_swin_tiny"
    )
    weights: str = _key(
        "file of weights to start from, or the folder of a published model that needs no training; a file that is "
        "called random.md stands for random weights"
    )
    sam: str = _key("folder of the published SAM 2.1 that makes masks of boxes, where the family has boxes alone")
    image_px: int = _key("side of the network's input, a multiple of 32", ge=32, le=2048)
    epochs: int = _key(
        "passes over the training photographs; 0 takes the trained detector that weights belong to", ge=0
    )
    batch: int = _key("photographs in a step", ge=1)
    learning_rate: float = _key("of AdamW at its height", gt=0, lt=1)
    plain_epochs: int = _key("last epochs without mosaic augmentation", ge=0)
    workers: int = _key("processes that load photographs", ge=0, le=64)
    tile_px: int = _key(
        "side of the tiles that it learns from, enlarged or shrunk to image_px; 0 for whole photographs", ge=0, le=4096
    )
    tile_overlap: float = _key("of neighbouring tiles in training, as a share of the side", ge=0, lt=0.9)
    tile_min_part: float = _key("of an animal's area; a tile that shows less of it does not teach it", ge=0, le=1)
    options: dict[str, Any] = _key("the library's other training options by its own names, such as mosaic: 0.5")


@dataclass
class Detections:
    floor: float = _key("boxes with a lower score are not kept; low, so that the PR curve is whole", gt=0, lt=1)
    tile_px: int = _key("a photograph with a longer side is sliced into tiles of this side", ge=64)
    tile_overlap: float = _key("of neighbouring tiles, as a share of the side", ge=0, lt=0.9)
    whole: bool = _key("look at a photograph that is sliced as a whole, too")
    merge: str = _key(
        "what becomes of predictions that overlap: one around a better one and its matches, one around whole chains of "
        "matches, or the best alone",
        choices=("greedy_nmm", "nmm", "nms"),
    )
    merge_metric: str = _key("of the overlap: of the smaller one's area, or of both together", choices=("ios", "iou"))
    merge_threshold: float = _key("predictions of two tiles that overlap by at least so much are one", gt=0, le=1)
    merge_comparable: float = _key("of the better one's score; a weaker one does not make it grow", ge=0, le=1)
    merge_whole_first: bool = _key(
        "what a tile's edge cuts off gives way to what another tile shows whole and covers half of it, whatever "
        "merge_threshold is"
    )
    nms_iou: float = _key("of two boxes in one tile that overlap more, the better stays", gt=0, lt=1)
    max_boxes: int = _key(
        "kept of one tile, or what the detector gives at most; must exceed the densest annotated tile", ge=1
    )
    batch: int = _key("tiles through the model at a time", ge=1)
    precision: str = _key("of the model's arithmetic on a GPU", choices=("float32", "bfloat16", "float16"))
    workers: int = _key("threads that decode photographs ahead of the model", ge=1, le=64)


@dataclass
class DetectionMetrics:
    wanted_recall: float = _key("at IoU 0.5 on validation; the confidence threshold is chosen for it", gt=0, le=1)
    areas_px: list[int] = _key("areas at which medium and large animals begin, pixels of the photograph", ge=1)
    seam_px: float = _key("a tile's inner edge is near what it runs through or passes so many pixels away", ge=0)
    count_classes: list[str] = _key("classes whose animals are counted apart, too; [] for none")


@dataclass
class Crops:
    confidence: float = _key("boxes with a lower score make no crop", ge=0, lt=1)
    margin_percent: float = _key("added on each side, of the box's side", ge=0, le=100)
    max_px: int = _key("longer side of a stored crop; smaller ones are not enlarged", ge=16)
    jpeg_quality: int = _key("of the stored crop", ge=1, le=100)
    workers: int = _key("threads that decode and encode; the crops do not depend on it", ge=1, le=64)


@dataclass
class Dataset:
    licences: list[str] = _key("crops with another licence are dropped", choices=LICENCES)
    min_crop_px: int = _key("a crop whose box is narrower or lower is dropped", ge=1)
    min_class_crops: int = _key("a class with fewer crops is dropped; not of individuals", ge=1)
    near_duplicate_bits: int = _key(
        "photographs whose perceptual hashes differ in at most so many of 64 bits are near-duplicates", ge=0, le=5
    )
    split_by: str = _key(
        "what stays on one side of the split; random and photograph leak and are for comparison; of individuals: "
        "published, time (later encounters are held out), open_set (and some individuals wholly)",
        choices=("observation", "observer", "photograph", "random", "published", "time", "open_set"),
    )
    held_out_share: float = _key("individuals: of each one's photographs, held out by time and open_set", gt=0, lt=1)
    new_share: float = _key("individuals: of each data set's, wholly held out by open_set", gt=0, lt=1)
    held_out_observers: float = _key("of the observers, where the split is by observer; not of individuals", gt=0, lt=1)
    validation_crops: int = _key("of each species, where it has enough groups; not of individuals", ge=1)
    test_crops: int = _key("of each species, for a test split made the same way; 0 for none; not of individuals", ge=0)
    decisions: str = _key("table of a review's decisions about crops")
    earlier: str = _key(
        "table of the observations, or individuals' encounters, that an earlier run held out: its held_out.csv"
    )
    low_share: float = _key(
        "labels taxon: of the target, for all taxa together that a crop may be of and is not sure to be", ge=0, lt=1
    )
    specimens: str = _key(
        "labels taxon: folder of photographs of single specimens that train, too, and a table of their names; "
        "one without a table for none"
    )


@dataclass
class Classifier:
    model: str = _key("name of a timm model")
    pretrained: bool = _key("start from the published weights, which a hub must supply")
    weights: str = _key("file of the backbone's weights to start from; one that is called none.md stands for none")
    image_px: int = _key("side of the network's input", ge=16, le=2048)
    embedding: int = _key("width of a layer that individuals are compared by; 0 for the backbone's features", ge=0)
    margin: float = _key("loss = arcface: radians; triplet: a distance, at most 2", ge=0, le=2)
    scale: float = _key("loss = arcface or triplet: of the cosines that the logits are", gt=0, le=1000)
    of_each: int = _key("crops of one class in a batch, for triplets at least 2; 0 for no regard", ge=0)
    epochs: int = _key("passes over the training crops", ge=1)
    batch: int = _key("crops in a step, for each of the devices", ge=1)
    accumulate: int = _key("batches whose gradients make one step", ge=1)
    learning_rate: float = _key("of AdamW at its height", gt=0, lt=1)
    weight_decay: float = _key("of AdamW", ge=0, lt=1)
    layer_decay: float = _key("the learning rate of a layer of the backbone as a share of the next one's", gt=0, le=1)
    frozen_epochs: int = _key("first epochs in which only head and place learn", ge=0)
    cache_features: bool = _key("in these show whole crops and mirror images, whose features are worked out once")
    schedule: str = _key("of the learning rate's fall", choices=("cosine", "linear"))
    warmup: float = _key("share of the steps in which the learning rate rises", ge=0, lt=1)
    ema: float = _key("decay of the moving average of the weights; 0 for none", ge=0, lt=1)
    early_stop: int = _key("epochs without a better one, as keep judges, that end the training; 0 for none", ge=0)
    keep: str = _key(
        "which epoch's weights: the last one's, those of the best top-1 on validation, or those of the last epoch in "
        "which its loss and top-1 both got better than those kept before",
        choices=("last", "best_top1", "best_both"),
    )
    label_smoothing: float = _key("share of the target spread over all classes", ge=0, lt=1)
    place_noise_deg: float = _key("by which training moves places at most, degrees", ge=0, le=90)
    place_drop: float = _key("probability that training shows no place", ge=0, le=1)
    crop_scale: float = _key("least share of a crop that training shows", gt=0, le=1)
    flip: str = _key("mirroring in training", choices=("none", "horizontal", "both"))
    rotation_deg: float = _key("by which training turns crops at most, degrees", ge=0, le=180)
    auto_augment: bool = _key("change each view in training by AutoAugment's policies for ImageNet")
    colour: float = _key("strength of changes of brightness, contrast, saturation and hue", ge=0, le=1)
    erasing: float = _key("probability that a part of a crop is erased", ge=0, le=1)
    mixup: float = _key("alpha of MixUp; 0 for none", ge=0)
    cutmix: float = _key("alpha of CutMix; 0 for none", ge=0)
    precision: str = _key("auto is bfloat16 on a GPU", choices=("auto", "float32", "bfloat16"))
    compile: bool = _key("torch.compile the backbone")
    devices: int = _key("GPUs, or processes where there is none; 0 for all GPUs", ge=0, le=1024)
    workers: int = _key("processes that load crops, for each of the devices", ge=0, le=64)


@dataclass
class Evaluation:
    bootstrap: int = _key("resamples for an interval", ge=100)
    resolutions: list[int] = _key(
        "sides of the network's input to judge the classifier at besides its training's own; not of individuals",
        ge=16,
        le=2048,
    )
    region_deg: float = _key("side of the regions that accuracy is told for, degrees; not of individuals", ge=1, le=180)
    wanted_accuracy: float = _key(
        "of answers at the lowest sure rank; the threshold is chosen for it; not of individuals", gt=0, le=1
    )
    photo_boxes: int = _key(
        "crops of a photograph whose answers are summed, best scores first; not of individuals", ge=1
    )
    other: str = _key(
        "table of another identifier's answers: photo_key, top1 to top5; a header alone for none; not of individuals"
    )
    synonyms: str = _key(
        "table of names that mean the same: name, accepted; or a source folder's backbone.jsonl; not of individuals"
    )
    answer_by: str = _key(
        "individuals: the scores that answer: of the classifier, the nearest photographs, each one's centroid, local "
        "features, or all of them calibrated and fused",
        choices=("softmax", "nearest", "centroid", "local", "fused"),
    )
    threshold_by: str = _key("individuals: one threshold for all, or one for each data set", choices=("all", "dataset"))
    neighbours: int = _key("individuals: most similar photographs of each that nearest averages", ge=1)
    flips: bool = _key("individuals: compare photographs and their mirror images together")
    sides: bool = _key("individuals: photographs of opposite sides are not compared")
    local: str = _key("individuals: local features that are matched, too", choices=("none", "sift", "lightglue"))
    local_candidates: int = _key("individuals: photographs, most similar first, that they are matched with", ge=1)
    local_weights: str = _key("individuals: folder of LightGlue's weights; random.md where it is not asked for")


@dataclass
class Ablations:
    seeds: int = _key("trainings of each variant; the seeds count up from seed", ge=1)
    epochs: int = _key("of each training; 0 for as many as the classifier's", ge=0)
    threads: int = _key("CPU threads of each training; as many run at once, also on one GPU, as the cores allow", ge=1)
    resolutions: list[int] = _key(
        "sides of the network's input to train at beside the classifier's own", ge=16, le=2048
    )
    pair: list[str] = _key("two species that look alike, to be told apart by where they live; [] for none")
    rare_crops: int = _key("a species with at most so many training crops is rare", ge=1)


@dataclass
class Report:
    photographs: int = _key("shown with their boxes", ge=0, le=100)
    crops_per_class: int = _key("shown of each class", ge=0, le=50)


@dataclass
class Params:
    """All of params.yaml: the knobs that people sweep, then one section for each stage."""

    study: str = _key("its artifacts lie below data/<study>", pattern=_NAME)
    seed: int = _key("of every random choice", ge=0)
    beta: float = _key("of the effective number of samples; 0 gives equal class weights", ge=0, lt=1)
    max_weight: float = _key("no class weighs more than this multiple of the lightest", ge=1)
    loss: str = _key(
        "how the classifier learns the hierarchy, or individuals: flat, arcface, triplet",
        choices=(*HIERARCHY_LOSSES, *IDENTITY_LOSSES),
    )
    balance: str = _key(
        "where the weights of classes go: what is shown, or the loss", choices=("none", "sampler", "loss")
    )
    place: str = _key("what the classifier makes of a photograph's place", choices=("none", "late", "fused"))
    shards: list[str] = _key(
        "names of the parts that the scattered stages run in; another number of them has photographs fetched again",
        pattern=_NAME,
    )
    labels: list[str] = _key(
        "what the classifier learns: species and their genera; taxon: of trays' animals, from family to class; "
        "identity: which individual it is; [] ends the study after the crops",
        choices=("species", "taxon", "identity"),
    )
    records: Records = field(default_factory=Records)
    images: Images = field(default_factory=Images)
    detector: Detector = field(default_factory=Detector)
    detections: Detections = field(default_factory=Detections)
    detection_metrics: DetectionMetrics = field(default_factory=DetectionMetrics)
    crops: Crops = field(default_factory=Crops)
    dataset: Dataset = field(default_factory=Dataset)
    classifier: Classifier = field(default_factory=Classifier)
    evaluation: Evaluation = field(default_factory=Evaluation)
    ablations: Ablations = field(default_factory=Ablations)
    report: Report = field(default_factory=Report)


def load(path: Path = PATH) -> Params:
    """Read and check a parameter file.

    Raises:
        InputError: if the file is missing or no mapping, or a key is unknown, missing, of a wrong type or out of range;
            the message names the key, its value and what is allowed.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; write one with 'instar study demo' or change to the project's folder")
    try:
        given = OmegaConf.load(path)
        merged = OmegaConf.merge(OmegaConf.structured(Params), given)
    except YAMLError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except ConfigKeyError as error:
        raise InputError(f"{path}: {_unknown(str(error.full_key))}") from None
    except OmegaConfBaseException as error:
        raise InputError(f"{path}: {_mistyped(str(error.full_key), str(error.msg))}") from None
    for name in sorted(OmegaConf.missing_keys(merged)):
        raise InputError(f"{path}: key {name} is missing ({_fields()[name].metadata['help']})")
    params = OmegaConf.to_object(merged)
    assert isinstance(params, Params)
    for problem in _problems(params):
        raise InputError(f"{path}: {problem}")
    return params


def keys() -> list[str]:
    """The dotted names of all keys."""
    return list(_fields())


def describe() -> str:
    """Every key with its type, range and meaning, one a line."""
    return "\n".join(
        f"  {name}: {_type(key)} {_describe(key.metadata)}\n      {key.metadata['help']}"
        for name, key in _fields().items()
    )


def problem_of(key: str, value: str) -> str | None:
    """What is wrong with ``key=value`` of a command line, as far as the key's name and kind tell; None for nothing."""
    known = _fields()
    if key not in known and not any(name.startswith(f"{key}.") or key.startswith(f"{name}.") for name in known):
        sections = {name.partition(".")[0] for name in known}
        near = difflib.get_close_matches(key, [*known, *sections], n=1)
        return f"unknown key {key}; " + (f"do you mean {near[0]}?" if near else "'instar study --help' lists them")
    is_list = key in known and getattr(known[key].type, "__origin__", None) is list
    if is_list and not value.startswith(("[", "${")):
        return f"{key} is a {_type(known[key])}; write {key}=[{value}]"
    if key in known and "," in value and not value.startswith(("[", "{", "'", '"')):
        return f"{key} = {value} is not allowed; it is one {_type(known[key])}"
    return None


def _type(key: Any) -> str:
    if getattr(key.type, "__origin__", None) is dict:
        return "mapping of names to values"
    item = getattr(key.type, "__args__", None)
    return f"list of {item[0].__name__}" if item else key.type.__name__


def _fields() -> dict[str, Any]:
    """Every leaf key with its dataclass field, by its dotted name."""
    found = {}
    for top in fields(Params):
        if is_dataclass(top.type):
            found.update({f"{top.name}.{key.name}": key for key in fields(top.type)})
        else:
            found[top.name] = top
    return found


def _unknown(name: str) -> str:
    section, _, _ = name.rpartition(".")
    known = [key.removeprefix(f"{section}.") for key in _fields() if key.startswith(f"{section}." if section else "")]
    names = sorted({key if section else key.split(".")[0] for key in known})
    return f"unknown key {name}; {section or 'the top level'} has {', '.join(names)}"


def _mistyped(name: str, message: str) -> str:
    key = _fields().get(name.partition("[")[0])  # of an item of a list, the list's
    wanted = f"; it must be {_type(key)} ({key.metadata['help']})" if key else ""
    return f"{name or 'the top level'}: {message.splitlines()[0]}{wanted}"


def _problems(params: Params) -> Iterator[str]:
    for name, key in _fields().items():
        value = attrgetter(name)(params)
        for item in value if isinstance(value, list) else [value]:
            if not _allowed(item, key.metadata):
                yield f"{name} = {item!r} is not allowed; it must be {_describe(key.metadata)} ({key.metadata['help']})"
    if not params.shards or len(set(params.shards)) < len(params.shards):
        yield f"shards = {params.shards} is not allowed; it must hold at least one name and none twice"
    records = params.records
    for problem in extent_problems(records.bbox, records.observed_from, records.observed_to):
        yield f"records.{problem}"
    if len(params.labels) > 1:
        yield f"labels = {params.labels} is not allowed; it must hold one name or none"
    for label, kind in (("taxon", "trays"), ("identity", "individuals")):
        if label in params.labels and records.kind != kind:
            yield f"labels = {params.labels} is not allowed; only a study with records.kind = {kind} can learn it"
    if params.loss in IDENTITY_LOSSES and params.labels != ["identity"]:
        yield f"loss = {params.loss} is not allowed; only individuals (labels = [identity]) are learnt by it"
    if params.loss in ("reward", "marginal") and params.labels == ["identity"]:
        yield f"loss = {params.loss} is not allowed; individuals have no hierarchy: choose flat, arcface or triplet"
    of_individuals = params.dataset.split_by in ("published", "time", "open_set")
    if params.labels and of_individuals != (params.labels == ["identity"]):
        ways = "published, time or open_set" if params.labels == ["identity"] else "observation or observer"
        told = f"dataset.split_by = {params.dataset.split_by} is not allowed with labels = {params.labels}"
        yield f"{told}; choose {ways}"
    if params.evaluation.answer_by == "local" and params.evaluation.local == "none":
        yield "evaluation.answer_by = local is not allowed with evaluation.local = none; choose sift or lightglue"
    if params.evaluation.local == "lightglue" and Path(params.evaluation.local_weights).name == "random.md":
        told = f"evaluation.local_weights = {params.evaluation.local_weights} is not allowed with evaluation.local"
        yield f"{told} = lightglue; set it to the folder of LightGlue's weights"
    for name, value in params.detector.options.items():
        if not isinstance(value, bool | int | float | str):
            yield f"detector.options.{name} = {value!r} is not allowed; it must be a number, a text, true or false"
    if len(params.ablations.pair) not in (0, 2) or len(set(params.ablations.pair)) < len(params.ablations.pair):
        yield f"ablations.pair = {params.ablations.pair} is not allowed; it must hold two species or none"
    areas = params.detection_metrics.areas_px
    if len(areas) != 2 or areas[0] >= areas[1]:
        yield f"detection_metrics.areas_px = {areas} is not allowed; it must hold two areas, the smaller one first"
    if params.detector.image_px % 32:
        yield f"detector.image_px = {params.detector.image_px} is not allowed; it must be a multiple of 32"
    if params.classifier.frozen_epochs > params.classifier.epochs:
        yield (
            f"classifier.frozen_epochs = {params.classifier.frozen_epochs} is not allowed; it must be at most "
            f"classifier.epochs = {params.classifier.epochs}"
        )
    yield from _training_problems(params)
    shares = params.records.annotation_validation_share + params.records.annotation_test_share
    if shares >= 1:
        yield f"records.annotation_validation_share and _test_share sum to {shares}; they must leave some for training"


def _training_problems(params: Params) -> Iterator[str]:
    given, each = params.classifier, params.classifier.of_each
    if given.early_stop and given.keep == "last":
        yield (
            f"classifier.early_stop = {given.early_stop} is not allowed with classifier.keep = last; "
            "choose best_top1 or best_both"
        )
    if given.pretrained and Path(given.weights).name != "none.md":
        yield f"classifier.weights = {given.weights} is not allowed with classifier.pretrained = true; choose one"
    if each and (given.batch % each or given.batch == each):
        yield f"classifier.of_each = {each} is not allowed; it must divide classifier.batch = {given.batch} and be less"
    if each and params.balance == "sampler":
        yield f"classifier.of_each = {each} is not allowed with balance = sampler; it shows classes equally often"
    if params.loss == "triplet" and each < 2:
        yield f"classifier.of_each = {each} is not allowed; loss = triplet needs at least 2, such as 4"
    if params.loss == "triplet" and (given.mixup or given.cutmix):
        yield "loss = triplet is not allowed with classifier.mixup or cutmix; a mixture is of no individual"
    if params.loss in IDENTITY_LOSSES and params.place != "none":
        yield f"loss = {params.loss} is not allowed with place = {params.place}; choose place = none"


def _allowed(value: Any, limits: Any) -> bool:
    if limits["choices"] is not None and value not in limits["choices"]:
        return False
    if limits["pattern"] is not None and not re.fullmatch(limits["pattern"], value):
        return False
    # "not (value >= limit)" also refuses a NaN
    return not (
        (limits["ge"] is not None and not value >= limits["ge"])
        or (limits["gt"] is not None and not value > limits["gt"])
        or (limits["le"] is not None and not value <= limits["le"])
        or (limits["lt"] is not None and not value < limits["lt"])
    )


def _describe(limits: Any) -> str:
    if limits["choices"] is not None:
        return "one of " + ", ".join(limits["choices"])
    if limits["pattern"] is not None:
        return "made of letters, digits, '-' and '_'"
    signs = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return " and ".join(f"{text} {limits[sign]:g}" for sign, text in signs.items() if limits[sign] is not None)
