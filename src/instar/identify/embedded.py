"""What individuals on photographs are compared by, made in the same steps as the stages."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from instar import params
from instar.boxes import NO_ANIMAL
from instar.detectors import Boxes
from instar.errors import InputError
from instar.files import sha256_of
from instar.identify.identifier import batch_of
from instar.identify.inputs import Picture
from instar.identify.models import Models, settings_of
from instar.identify.search import Seen, seen
from instar.reid import embeddings
from instar.reid.gallery import MANIFEST, Gallery, Source

#: Why a photograph is not compared of which the network says nothing.
NOTHING = "its embedding is 0, which is like none"


@dataclass(frozen=True)
class Network:
    """Detector and classifier of a study of individuals.

    Attributes:
        models: both, and how photographs become crops.
        min_crop_px: a box narrower or lower than this is not compared, as in the dataset.
        source: what its embeddings are called by.
    """

    models: Models
    min_crop_px: int
    source: Source


@dataclass(frozen=True)
class Embedded:
    """A photograph, by its best animal.

    Attributes:
        name: of the photograph.
        problem: why it could not be looked at; None if it was.
        reason: why there is no animal to compare; None if there is one.
        box_xyxy: float32, shape (4,), of the animal with the highest score of those that are large enough, of
            equal ones the largest.
        embedding: float32, shape (width,), of length 1.
        logits: float32, shape (n_classes,).
        The last three are empty where there is nothing to compare.
    """

    name: str
    problem: str | None
    reason: str | None
    box_xyxy: np.ndarray
    embedding: np.ndarray
    logits: np.ndarray


def load_network(study: params.Params, *, batch: int | None = None) -> Network:
    """The models of the study in params.yaml, with the settings that stand there now.

    Raises:
        InputError: if it is no study of individuals, or a model is missing or damaged.
    """
    from instar import detectors
    from instar.classifier.model import WEIGHTS, quiet_timm
    from instar.classifier.predict import Predictor

    check_individuals(study)
    root = Path("data") / study.study
    for stage in ("detector", "classifier"):
        if not (root / stage).is_dir():
            raise InputError(f"{root / stage}: no such folder; run the stage {stage}")
    quiet_timm()
    predictor = Predictor(root / "classifier")
    settings = settings_of(study, None).asked(batch=batch, threshold=None)
    source = Source(sha256_of(root / "classifier" / WEIGHTS), predictor.image_px)
    return Network(Models(detectors.load(root / "detector"), predictor, settings), study.dataset.min_crop_px, source)


def check_individuals(study: params.Params) -> None:
    """Refuse a study of anything else.

    Raises:
        InputError: if it is one.
    """
    if study.labels != ["identity"]:
        raise InputError(
            f"params.yaml: the study {study.study} has labels = [{', '.join(study.labels)}], and a gallery needs one "
            "of individuals; choose it with instar study individuals"
        )


def check_source(folder: Path, gallery: Gallery, network: Network) -> None:
    """Refuse a gallery that another classifier made.

    Raises:
        InputError: if it is one.
    """
    if gallery.source != network.source:
        made, given = gallery.source, network.source
        raise InputError(
            f"{folder / MANIFEST}: made by classifier {made.classifier[:12]} at {made.image_px} px, and the study's is "
            f"{given.classifier[:12]} at {given.image_px} px; run evaluation again, and enroll into a new folder"
        )


def embedded(network: Network, pictures: Iterable[Picture], *, flips: bool) -> Iterator[Embedded]:
    """Photographs in their order, while the models get full batches; names must differ.

    Args:
        network: of the study.
        pictures: photographs.
        flips: compare photographs and their mirror images together.
    """
    models, batch = network.models, network.models.settings.slicing.batch
    waiting: list[tuple[Seen, int | None, str | None]] = []
    for one in seen(models.detector, pictures, models.settings, models.predictor.image_px):
        waiting.append((one, *_best(one.boxes, network.min_crop_px)))
        if sum(place is not None for _, place, _ in waiting) >= batch:
            yield from _embedded(network, waiting, flips)
            waiting = []
    yield from _embedded(network, waiting, flips)


def _best(boxes: Boxes, min_crop_px: int) -> tuple[int | None, str | None]:
    """The place of the best box of those that are large enough, or why none is compared."""
    if not len(boxes.scores):
        return None, NO_ANIMAL
    sides = boxes.boxes_xyxy[:, 2:] - boxes.boxes_xyxy[:, :2]
    large = sides.min(axis=1) >= min_crop_px
    if not large.any():
        return None, f"animal under {min_crop_px} px"
    return int(np.lexsort((-sides.prod(axis=1), -boxes.scores, ~large))[0]), None


def _embedded(network: Network, waiting: list[tuple[Seen, int | None, str | None]], flips: bool) -> Iterator[Embedded]:
    views = [one.views[place] for one, place, _ in waiting if place is not None]
    predictor = network.models.predictor
    names = [one.name for one, place, _ in waiting if place is not None]
    both = embeddings.embedded(predictor, batch_of(views), names, flips=flips) if views else ((), ())
    found = zip(*both, strict=True)
    empty = np.zeros(0, np.float32)
    for one, place, reason in waiting:
        if place is None:
            yield Embedded(one.name, one.problem, None if one.problem else reason, empty, empty, empty)
            continue
        embedding, logits = next(found)
        if embedding.any():
            yield Embedded(one.name, None, None, one.boxes.boxes_xyxy[place], embedding, logits)
        else:
            yield Embedded(one.name, None, NOTHING, empty, empty, empty)
