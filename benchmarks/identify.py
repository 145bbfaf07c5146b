"""One photograph through `identify` against the forward passes of its two models, on the CPU.

Loaded beforehand are both models and the decoded photograph. A forward pass is the network alone, on a tensor that is
ready: the detector's of the photograph as it was scaled and padded, the classifier's of the views of its animals. What
identify adds is scaling, suppression of boxes, cutting out with the stored crop's JPEG, views and sums. First
identify must find the boxes of the detector called by hand, and give the probabilities that the classifier's forward
pass means. Then the best of many rounds is told, taken in turns; both networks have random weights, which cost as much
as trained ones, and the detector's scores are such that it finds a few animals.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, before torch is loaded
sys.path.insert(0, str(Path(__file__).parent))
from detections import Size, _detector, _scene

from instar.crops import Cut
from instar.detections import Limits, Slicing
from instar.identify.identifier import Identifier
from instar.identify.inputs import NOWHERE, Picture
from instar.identify.models import Models, Settings, load_models
from instar.identify.search import crop_view

#: What identify may take of the sum of the forward passes.
GOAL = 1.1


@dataclass
class Sizes:
    """Of the benchmark: photograph and detector's input in pixels, classifier and its input, animals, rounds."""

    width: int
    height: int
    detector_px: int
    model: str
    classifier_px: int
    animals: int
    rounds: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--small", action="store_true", help="small models; finishes in seconds, its ratio means nothing"
    )
    parser.add_argument("--model", default="vit_small_patch16_dinov3", help="of timm (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=30, help="of which the best is told (default: %(default)s)")
    options = parser.parse_args()
    sizes = Sizes(1600, 1200, 640, options.model, 224, 3, options.rounds)
    if options.small:
        sizes = Sizes(480, 360, 256, "test_resnet", 96, 3, 3)
    with tempfile.TemporaryDirectory(prefix="instar-bench-") as folder:
        models = _models(Path(folder), sizes)
    pixels = _scene(0, Size(1, sizes.width, sizes.height, sizes.detector_px, 1))
    models = _few(models, pixels, sizes.animals)
    identifier = Identifier(models)

    def identify() -> Any:
        (found,) = identifier.found([Picture("one", pixels, NOWHERE)])
        return found

    detect, classify = _forwards(models, pixels, identify().boxes.boxes_xyxy)
    _assert_equal(identify(), models, pixels, classify)
    print(
        f"yolo11n at {sizes.detector_px} px and {sizes.model} at {sizes.classifier_px} px, a photograph of "
        f"{sizes.width}×{sizes.height} px with {len(identify().boxes)} animals; boxes and probabilities are equal"
    )
    ways: dict[str, Callable[[], Any]] = {"identify": identify, "detector": detect, "classifier": classify}
    best = _best(ways, sizes.rounds)
    for name, (wall, cpu) in best.items():
        print(f"{name:12} {1000 * wall:7.1f} ms, {1000 * cpu:7.1f} CPU-ms")
    wall, cpu = (best["identify"][n] / (best["detector"][n] + best["classifier"][n]) for n in (0, 1))
    print(f"identify takes {wall:.3f}× the sum of both forward passes, {cpu:.3f}× in CPU time (goal: at most {GOAL})")
    return 0


def _models(root: Path, sizes: Sizes) -> Models:
    """A YOLO and a classifier of random weights, loaded as by the command."""
    import torch

    from instar.classifier.labels import LabelSpace
    from instar.classifier.model import Description, build_network, normalisation, save

    torch.manual_seed(0)
    _detector(root, Size(1, sizes.width, sizes.height, sizes.detector_px, 1))
    genera = [f"Genus{number:03}" for number in range(100)]
    names = tuple([f"{genus} {epithet}" for genus in genera for epithet in "abcdefghij"] + genera)
    parents = tuple([1000 + number // 10 for number in range(1000)] + [-1] * 100)
    labels = LabelSpace(names, ("species",) * 1000 + ("genus",) * 100, parents)
    mean, std = normalisation(sizes.model)
    description = Description(
        model=sizes.model,
        pretrained=False,
        image_px=sizes.classifier_px,
        mean=mean,
        std=std,
        loss="marginal",
        place="late",
        labels=labels,
        train_crops=(1,) * len(labels),
        train_crops_with_place=1,
        train_box=(0.0, 0.0, 0.0, 0.0),
        early_stop=0,
        licences={},
        dataset_md5="",
        code_sha256="",
        instar="",
    )
    (root / "classifier").mkdir()
    save(root / "classifier", build_network(description), description)
    settings = Settings(
        temperature=1.2,
        threshold=0.8,
        confidence=0.0,
        photo_boxes=10,
        slicing=Slicing(4096, 0.2, True, "greedy_nmm", "ios", 0.5, 0.5, False, batch=16, precision="float32"),
        limits=Limits(floor=0.05, nms_iou=0.5, max_boxes=300),
        cut=Cut(margin_percent=10.0, max_px=448, jpeg_quality=90),
        region_deg=30.0,
    )
    return load_models(root / "detector", root / "classifier", settings)


def _few(models: Models, pixels: np.ndarray, animals: int) -> Models:
    """The same with the confidence that so many animals of the photograph have."""
    from dataclasses import replace

    (found,) = Identifier(models).found([Picture("one", pixels, NOWHERE)])
    scores = found.boxes.scores
    assert len(scores) > animals, f"the detector finds {len(scores)} boxes, too few to choose {animals} of them"
    between = float(scores[animals - 1] + scores[animals]) / 2
    return replace(models, settings=replace(models.settings, confidence=between))


def _forwards(
    models: Models, pixels: np.ndarray, boxes_xyxy: np.ndarray
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Both networks on tensors that are ready."""
    import torch

    from instar.photographs import shrunk

    detector: Any = models.detector
    predictor = models.predictor
    with torch.inference_mode():  # as the buffer that it is written into was made
        given = detector._input([shrunk(pixels, 2 * detector._image_px)])
    cut, image_px = models.settings.cut, predictor.image_px
    views = np.stack([crop_view(pixels, box, cut, image_px) for box in boxes_xyxy])
    normalised = predictor.description.normalise(torch.from_numpy(views).permute(0, 3, 1, 2).to(predictor.device))
    places = torch.full((len(views), 2), torch.nan, device=predictor.device)

    def detect() -> Any:
        with torch.inference_mode():
            return detector._model(given)

    def classify() -> Any:
        with torch.inference_mode():
            return predictor.network(normalised, places)

    return detect, classify


def _assert_equal(found: Any, models: Models, pixels: np.ndarray, classify: Callable[[], Any]) -> None:
    """The detector's own boxes, and the probabilities that the classifier's logits mean."""
    limits, settings = models.settings.limits, models.settings
    (boxes,) = models.detector.predict([pixels], floor=limits.floor, nms_iou=limits.nms_iou, max_boxes=limits.max_boxes)
    sure = boxes.scores >= settings.confidence
    height, width = pixels.shape[:2]
    inside = np.clip(boxes.boxes_xyxy[sure], 0, [width, height, width, height])
    np.testing.assert_allclose(found.boxes.boxes_xyxy, inside, atol=1e-3)
    nodes = models.predictor.nodes(classify(), temperature=settings.temperature).cpu().numpy()
    np.testing.assert_allclose(found.animals, nodes, atol=1e-5)
    np.testing.assert_allclose(found.whole, nodes[: settings.photo_boxes].mean(axis=0), atol=1e-5)


def _best(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, tuple[float, float]]:
    """Wall and CPU seconds of the fastest round of each, taken in turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, call in ways.items():
            start, before = time.perf_counter(), time.process_time()
            call()
            found[name].append((time.perf_counter() - start, time.process_time() - before))
    return {name: (min(wall for wall, _ in times), min(cpu for _, cpu in times)) for name, times in found.items()}


if __name__ == "__main__":
    sys.exit(main())
