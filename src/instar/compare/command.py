"""`instar compare`: detectors on the same photographs, zooms of one detector, or ways to split the crops."""

import argparse
from pathlib import Path

from instar.dataset.choice import WAYS
from instar.study import names


def compare(words: list[str]) -> int:
    """Read the words of ``instar compare``, make the comparison and print it as a table."""
    parser = argparse.ArgumentParser(
        prog="instar compare",
        description="Train and judge several variants on the same data, and write a table of their figures to "
        "data/<study>/comparison. What was trained on the same before is not trained again.",
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    presets = kinds.add_parser("detectors", help="train presets of the group detector; an interrupted one goes on")
    presets.add_argument("presets", nargs="+", metavar="preset", help=f"of {', '.join(names('detector'))}")
    presets.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="keys of the section detector for all presets, for example detector.epochs=20",
    )
    splits = kinds.add_parser("splits", help="train the classifier on looser splits: which accuracy each would claim")
    splits.add_argument("ways", nargs="*", default=list(WAYS[:3]), metavar="way", help=f"of {', '.join(WAYS)}")
    zooms = kinds.add_parser("zooms", help="search the validation photographs with tiles of several sides")
    zooms.add_argument(
        "zooms",
        nargs="*",
        type=float,
        metavar="zoom",
        help="detector.image_px by the side of a tile; 1 2 4 6 8 if none is given",
    )
    for kind in (presets, splits, zooms):
        kind.add_argument("--out", type=Path, help="folder to write; data/<study>/comparison if not given")
    options = parser.parse_args(words)
    if options.kind == "detectors":
        from instar.compare.detectors import compare_detectors

        print(compare_detectors(options.presets, options.set, options.out))
    elif options.kind == "zooms":
        from instar.compare.zooms import ZOOMS, compare_zooms

        print(compare_zooms(options.zooms or list(ZOOMS), options.out))
    else:
        from instar.compare.splits import compare_splits

        print(compare_splits(options.ways, options.out))
    return 0
