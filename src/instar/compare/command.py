"""`instar compare`: detectors, zooms of one detector, classifiers of individuals, or ways to split the crops."""

import argparse
import sys
from pathlib import Path

from instar.dataset.choice import WAYS
from instar.study import names

_DETECTORS = """Train presets of the group detector on the study's annotated photographs, judge each on validation and
test, and time it on this machine. Writes comparison.md, .csv and .json to OUT, the model and what it found to
OUT/<preset>, and rows that the next report shows. It costs a training of the stage detector for each preset that is
trained, at the preset's epochs (detector.epochs=… changes them), and a search of both splits with each; an interrupted
training goes on, and a preset that was judged on the same before is only timed."""
_SPLITS = """Split the crops of a study of species in several ways, train the classifier of params.yaml on each and
judge it: which accuracy a looser split would claim. Writes splits.csv to OUT, and data set, classifier and figures to
OUT/split_by_<way>. It costs a training of the stage classifier for each way, on the demo two minutes on two cores."""
_ZOOMS = """Search the annotated photographs of validation with the study's detector, on tiles of several sides, and
judge each zoom: which detections.tile_px to choose. Trains nothing. Writes zooms.md, .csv, .json and .png to OUT, what
was found to OUT/zoom_<zoom>, and rows that the next report shows. Its cost grows with the square of the zoom: 1 2 4 6 8
together look at about 121 times as many tiles as 1 alone."""
_INDIVIDUALS = """Train presets of the group classifier on the known individuals of a study, and judge what each answers
on validation and test. Writes comparison.md, .csv and .json to OUT; model, epochs, figures, submission.csv and gallery
of each to OUT/<preset>; figures and submission.csv of --ensemble to OUT/all_together; and rows that the next report
shows. It costs a training of the stage classifier for each preset, at its epochs (classifier.epochs=… changes them); an
interrupted one goes on. Judging each takes little beside it, an ensemble seconds. Where the study has a name of its
own, classifiers are as their presets say, without what a preset of study changes."""


def comparable() -> list[str]:
    """Presets of detectors but ``whole_image``, which finds nothing."""
    return [name for name in names("detector") if name != "whole_image"]


def compare(words: list[str]) -> int:
    """Read the words of ``instar compare``, make the comparison and print it as a table."""
    parser = argparse.ArgumentParser(
        prog="instar compare",
        description="Train and judge several variants on the same data, and write a table of their figures to "
        "data/<study>/comparison. What was trained on the same before is not trained again.",
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    presets = kinds.add_parser(
        "detectors", help="train presets of the group detector; an interrupted one goes on", description=_DETECTORS
    )
    presets.add_argument("presets", nargs="+", metavar="preset", help=f"of {', '.join(comparable())}")
    presets.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="keys of the section detector, for all presets, for example detector.epochs=20, or for one, for example "
        "maskrcnn.weights=models/maskrcnn_coco.pth",
    )
    splits = kinds.add_parser(
        "splits", help="train the classifier on looser splits: which accuracy each would claim", description=_SPLITS
    )
    splits.add_argument("ways", nargs="*", default=list(WAYS[:3]), metavar="way", help=f"of {', '.join(WAYS)}")
    zooms = kinds.add_parser(
        "zooms", help="search the validation photographs with tiles of several sides", description=_ZOOMS
    )
    zooms.add_argument(
        "zooms",
        nargs="*",
        type=float,
        metavar="zoom",
        help="detector.image_px by the side of a tile; 1 2 4 6 8 if none is given",
    )
    identities = kinds.add_parser(
        "individuals", help="train presets of the classifier of individuals", description=_INDIVIDUALS
    )
    identities.add_argument(
        "presets",
        nargs="+",
        metavar="preset",
        help=f"of {', '.join(names('classifier'))}; preset,key=value changes keys of one, such as config1,loss=arcface",
    )
    identities.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="keys of the section classifier, loss or balance, for all presets, for example classifier.epochs=20",
    )
    identities.add_argument(
        "--ensemble", action="store_true", help="also fuse the scores of all, calibrated on validation, and judge that"
    )
    for kind in (presets, splits, zooms, identities):
        kind.add_argument("--out", type=Path, help="folder to write; data/<study>/comparison if not given")
    options = parser.parse_args(words)
    if options.kind == "detectors":
        from instar.compare.detectors import compare_detectors

        text, failed = compare_detectors(options.presets, options.set, options.out)
        print(text)
        for line in failed:
            print(line, file=sys.stderr)
        return 1 if failed else 0
    if options.kind == "individuals":
        from instar.compare.individuals import compare_individuals

        print(compare_individuals(options.presets, options.set, options.out, ensemble=options.ensemble))
    elif options.kind == "zooms":
        from instar.compare.zooms import ZOOMS, compare_zooms

        print(compare_zooms(options.zooms or list(ZOOMS), options.out))
    else:
        from instar.compare.splits import compare_splits

        print(compare_splits(options.ways, options.out))
    return 0
