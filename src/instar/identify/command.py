"""`instar identify`: what is on photographs."""

import argparse
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar.errors import InputError

if TYPE_CHECKING:
    from instar.identify.identifier import Found
    from instar.identify.inputs import Place
    from instar.identify.models import Models
    from instar.identify.output import Output
    from instar.identify.overlay import Overlays
    from instar.params import Params

_DESCRIPTION = """Find the animals on photographs and name them: a line for each photograph on standard output, and one
for each animal. An answer is the species if it is at least as probable as --threshold, else the genus, else none; that
of a photograph is from the mean over its best 10 animals. Photographs that can't be read are told on standard error;
the others are answered all the same, and the exit status is then 1."""
_EPILOG = """Detector, crops and classifier are used as in the study's stages, so that the answers are those that its
evaluation judged, at the temperature that it found. A photograph that is named twice is answered once. Where
params.yaml has a study of individuals, each photograph is answered with the known individual on it or with
new_individual, by its best animal and by what evaluation found: the individual with the highest score that reaches the
threshold of its data set. Without --dataset individuals of all data sets are candidates, each against the threshold of
its own."""


def identify(words: list[str]) -> int:
    """Read the words of ``instar identify`` and answer; 1 if a photograph could not be read."""
    parser = _parser()
    options = parser.parse_args(words)
    if (options.lat is None) != (options.lon is None):
        parser.error("--lat and --lon go together: give both or none")
    if study := _of_individuals(options):
        from instar.identify.individuals import identify_individuals

        return identify_individuals(options, study)
    place = None if options.lat is None else (options.lat, options.lon)
    return _identify(options, place)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="instar identify", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument(
        "photographs", nargs="+", type=Path, metavar="PHOTO", help="a photograph, or a folder with photographs below it"
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="that 'instar export' wrote; if not given the models of the study in params.yaml, with the "
        "settings that stand there now",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="write one JSON document instead of lines to read")
    form.add_argument("--csv", action="store_true", help="write CSV: a row per photograph, then one per animal")
    parser.add_argument("--overlay", type=Path, metavar="DIR", help="write the photographs with boxes and names there")
    parser.add_argument(
        "--lat",
        type=_number(-90, 90),
        metavar="DEGREES",
        help="latitude of all photographs, north is positive; what each one's EXIF says if not given",
    )
    parser.add_argument("--lon", type=_number(-180, 180), metavar="DEGREES", help="longitude, east is positive")
    parser.add_argument(
        "--threshold",
        type=_number(0, 1),
        help="least probability of an answer; what evaluation found for evaluation.wanted_accuracy if not given",
    )
    told = "classes of each rank, or individuals, that are listed (default: %(default)s)"
    parser.add_argument("--top", type=_count, default=5, help=told)
    parser.add_argument("--batch", type=_count, help="tiles and animals through the models at a time")
    _add_individuals(parser)
    return parser


def _add_individuals(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("individuals")
    group.add_argument(
        "--gallery", type=Path, metavar="FOLDER", help="of known individuals, such as one that 'instar enroll' grew; "
        "the study's own if not given"
    )  # fmt: skip
    group.add_argument("--dataset", help="that all photographs are of; any of the gallery's if not given")
    group.add_argument(
        "--orientation", metavar="SIDE", help="that all photographs show, such as left; any if not given"
    )
    told = "way to compare; evaluation.answer_by if not given"
    group.add_argument("--by", choices=("softmax", "nearest", "centroid", "fused"), help=told)


def _number(low: float, high: float) -> "type[float]":
    def number(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not in {low:g} to {high:g}")
        return value

    return number  # type: ignore[return-value]


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return int(text)


#: Options of a study of individuals.
_OF_INDIVIDUALS = ("gallery", "dataset", "orientation", "by")


def _of_individuals(options: argparse.Namespace) -> "Params | None":
    """The study in params.yaml where it is one of individuals and answers."""
    from instar import params

    study = params.load() if options.model is None else None
    if study is not None and study.labels == ["identity"]:
        return study
    for name in _OF_INDIVIDUALS:
        if getattr(options, name) is not None:
            raise InputError(f"--{name} is of a study of individuals; choose one with instar study, without --model")
    return None


def _identify(options: argparse.Namespace, place: "Place | None") -> int:
    from instar.identify.asked import Asked, complain
    from instar.identify.identifier import Identifier
    from instar.identify.inputs import read_all
    from instar.identify.overlay import Overlays
    from instar.photographs import THREADS

    asked = Asked(options.photographs)
    if not asked.paths:
        return 1
    overlays = Overlays(options.overlay, asked.paths) if options.overlay else None
    models = _models(options)
    output = _output(options, models)
    if place is not None and not models.predictor.description.takes_place:
        complain("--lat and --lon are ignored: the classifier was trained without places")
    identifier = Identifier(models, keep_pixels=overlays is not None)
    found = asked.shown(identifier.found(read_all(asked.paths, place, threads=THREADS)))
    return asked.answer(_rows(found, models, overlays, options.top), output)


def _rows(
    found: "Iterable[Found]", models: "Models", overlays: "Overlays | None", top: int
) -> Iterator[dict[str, Any]]:
    """Photographs as ``--json`` gives them; drawn over, too, where that is asked for."""
    from instar.identify.answers import told

    labels, settings, far = models.predictor.labels, models.settings, _Far(models)
    for one in found:
        row = told(one, labels, threshold=settings.threshold, top=top, counted=settings.photo_boxes)
        if overlays:
            row["overlay"] = None if one.pixels is None else str(overlays.write(one.pixels, row))
        far.look(one)
        yield row


class _Far:
    """Tells of the first photograph that was taken far outside the places of training.

    Args:
        models: whose training is meant.
    """

    def __init__(self, models: "Models") -> None:
        self._box, self._least = models.predictor.description.train_box, models.settings.region_deg
        self._told = False

    def look(self, found: "Found") -> None:
        """Look at a photograph's place."""
        from instar.classifier.place import degrees_outside
        from instar.identify.asked import complain

        if self._told or self._box is None or math.isnan(found.place[0]):
            return
        outside = degrees_outside(found.place, self._box)
        if outside > self._least:
            self._told = True
            south, west, north, east = self._box
            latitude, longitude = found.place
            complain(
                f"{found.name}: its place {latitude:.3f}, {longitude:.3f} lies {outside:.0f} degrees outside those of "
                f"training (latitude {south:.1f} to {north:.1f}, longitude {west:.1f} to {east:.1f}): animals there "
                "may be of no class that is known; other photographs may be far outside, too"
            )


def _models(options: argparse.Namespace) -> "Models":
    from instar import params
    from instar.identify.asked import complain
    from instar.identify.models import calibration_of, load_exported, load_models, settings_of

    if options.model is not None:
        models = load_exported(options.model)
    else:
        study = params.load()
        root = Path("data") / study.study
        for made, stage in ((root / "detector", "detector"), (root / "classifier", "classifier")):
            if not made.is_dir():
                raise InputError(f"{made}: no such folder; run the stage {stage}, or name an exported --model")
        calibration = calibration_of(root / "metrics" / "evaluation.json")
        models = load_models(root / "detector", root / "classifier", settings_of(study, calibration))
        if calibration is None:
            complain(f"{root}/metrics/evaluation.json tells no temperature: probabilities are not calibrated")
    return replace(models, settings=models.settings.asked(batch=options.batch, threshold=options.threshold))


def _output(options: argparse.Namespace, models: "Models") -> "Output":
    import instar
    from instar.identify.output import Csv, Json, Table

    if options.csv:
        return Csv(sys.stdout, options.top)
    about = models.predictor.description
    if not options.json:
        return Table(sys.stdout, about.labels, places=about.takes_place)
    head = {
        "instar": instar.__version__,
        "detector": models.detector.name,
        "classifier": {"model": about.model, "dataset_md5": about.dataset_md5, "instar": about.instar},
        "temperature": models.settings.temperature,
        "threshold": models.settings.threshold,
    }
    return Json(sys.stdout, head)
