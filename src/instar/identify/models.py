"""Detector, classifier and settings: of the study in params.yaml, or of a folder that ``instar export`` wrote."""

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar.classifier.labels import INDIVIDUAL
from instar.crops import Cut
from instar.detections import Limits, Slicing
from instar.errors import InputError
from instar.files import write_json
from instar.params import Params

if TYPE_CHECKING:
    from instar.classifier.labels import LabelSpace
    from instar.classifier.predict import Predictor
    from instar.detectors import Detector

#: In an exported folder: what identify needs beside the models.
SETTINGS = "identify.json"
#: In an exported folder: the detector's own folder.
DETECTOR = "detector"


@dataclass(frozen=True)
class Calibration:
    """What the stage ``evaluation`` found on validation crops.

    Attributes:
        temperature: divides the classifier's logits.
        threshold: probability from which so many answers are right as wanted; None where no threshold does it.
    """

    temperature: float
    threshold: float | None


@dataclass(frozen=True)
class Settings:
    """How photographs become answers; the same values as in the stages, so that answers are the same.

    Attributes:
        temperature: divides the classifier's logits.
        threshold: probability that an answer needs.
        confidence: boxes with a lower score are no animals.
        photo_boxes: animals that make the photograph's answer, those with the highest scores.
        slicing: of photographs into tiles.
        limits: of what the detector keeps.
        cut: how crops are made.
        region_deg: side of a region; a place farther outside those of training is told.
    """

    temperature: float
    threshold: float
    confidence: float
    photo_boxes: int
    slicing: Slicing
    limits: Limits
    cut: Cut
    region_deg: float

    def asked(self, *, batch: int | None, threshold: float | None) -> "Settings":
        """The same with another ``threshold`` and number of tiles and crops at a time; None changes nothing."""
        slicing = replace(self.slicing, batch=batch) if batch else self.slicing
        return replace(self, slicing=slicing, threshold=self.threshold if threshold is None else threshold)


def settings_of(params: Params, found: Calibration | None) -> Settings:
    """The settings that the stages of a study have.

    Args:
        params: of the study.
        found: by ``evaluation``. Where it tells no threshold the accuracy that is wanted is the threshold: of answers
            that are so probable, so many are right if probabilities are.
    """
    given, crops = params.detections, params.crops
    threshold = found.threshold if found else None
    return Settings(
        temperature=found.temperature if found else 1.0,
        threshold=params.evaluation.wanted_accuracy if threshold is None else threshold,
        confidence=crops.confidence,
        photo_boxes=params.evaluation.photo_boxes,
        slicing=Slicing(**{one.name: getattr(given, one.name) for one in fields(Slicing)}),
        limits=Limits(given.floor, given.nms_iou, given.max_boxes),
        cut=Cut(crops.margin_percent, crops.max_px, crops.jpeg_quality),
        region_deg=params.evaluation.region_deg,
    )


def write_settings(path: Path, settings: Settings) -> None:
    """Write settings as JSON."""
    write_json(path, asdict(settings))


def read_settings(path: Path) -> Settings:
    """What ``write_settings`` wrote.

    Raises:
        InputError: if the file is missing or damaged.
    """
    try:
        given: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        parts = {"slicing": Slicing, "limits": Limits, "cut": Cut}
        made = {name: kind(**given.pop(name)) for name, kind in parts.items()}
        return Settings(**given, **made)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file; name a folder that 'instar export' wrote") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: not the settings of an exported model ({error!r}); export it again") from None


def calibration_of(metrics: Path) -> Calibration | None:
    """What the stage ``evaluation`` found, from its figures; None where there are none.

    Raises:
        InputError: if the figures are damaged, or are no numbers in their range.
    """
    try:
        found = json.loads(metrics.read_text(encoding="utf-8"))["calibration"]
        temperature = found["temperature"]
    except (FileNotFoundError, KeyError):
        return None
    except (ValueError, TypeError):
        raise InputError(f"{metrics}: not the figures of the stage evaluation; run it again") from None
    if not _is_number(temperature) or not 0 < temperature < float("inf"):
        raise InputError(f"{metrics}: temperature = {temperature!r} is no positive number; run evaluation again")
    try:
        threshold = found["roll_up"]["threshold"]
    except (KeyError, TypeError):
        raise InputError(f"{metrics}: tells no threshold; run evaluation again") from None
    if threshold is not None and (not _is_number(threshold) or not 0 <= threshold <= 1):
        raise InputError(f"{metrics}: threshold = {threshold!r} is not in 0 to 1; run evaluation again")
    return Calibration(float(temperature), None if threshold is None else float(threshold))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class Models:
    """All that ``Identifier`` takes."""

    detector: "Detector"
    predictor: "Predictor"
    settings: Settings


def load_models(detector: Path, classifier: Path, settings: Settings) -> Models:
    """Both models on the best device there is.

    Raises:
        InputError: if one is missing or damaged, or the classifier is not of species.
    """
    from instar import detectors
    from instar.classifier.model import quiet_timm
    from instar.classifier.predict import Predictor

    quiet_timm()
    predictor = Predictor(classifier)
    check_of_species(classifier, predictor.labels)
    return Models(detectors.load(detector), predictor, settings)


def check_of_species(classifier: Path, labels: "LabelSpace") -> None:
    """Refuse a classifier of taxa, whose answers depend on a sample's barcodes, and one of individuals.

    Raises:
        InputError: if it is one.
    """
    if INDIVIDUAL in labels.ranks:
        raise InputError(
            f"{classifier}: tells individuals, which are answered from a gallery; run instar identify without --model "
            "where params.yaml has its study"
        )
    if not labels.is_of_species:
        raise InputError(
            f"{classifier}: tells taxa ({labels.ranks[0]} to {labels.ranks[-1]}), which need a sample's barcodes; "
            "identify and export take classifiers of species, its answers are in the study's predictions.parquet"
        )


def load_exported(folder: Path) -> Models:
    """The models of a folder that ``instar export`` wrote.

    Raises:
        InputError: if something is missing or damaged.
    """
    return load_models(folder / DETECTOR, folder, read_settings(folder / SETTINGS))
