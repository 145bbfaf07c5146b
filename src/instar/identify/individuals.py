"""`instar identify` where params.yaml has a study of individuals."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from instar.errors import InputError
from instar.params import Params

if TYPE_CHECKING:
    from instar.identify.embedded import Embedded
    from instar.identify.output import Output
    from instar.identify.who import Who

#: Options of a study of species, by their name.
_OF_SPECIES = {"overlay": "--overlay", "lat": "--lat"}


def identify_individuals(options: argparse.Namespace, study: Params) -> int:
    """Answer each photograph with a known individual or ``new_individual``; 1 if one could not be read."""
    for name, word in _OF_SPECIES.items():
        if getattr(options, name) is not None:
            raise InputError(f"{word} is of studies of species, and {study.study} is one of individuals; leave it out")
    from instar.identify.asked import Asked, complain
    from instar.identify.embedded import check_source, embedded, load_network
    from instar.identify.inputs import read_all
    from instar.identify.who import ask, check_given, remarks
    from instar.photographs import THREADS

    asked = Asked(options.photographs)
    if not asked.paths:
        return 1
    check_given(options.gallery)
    folder = options.gallery or Path("data") / study.study / "gallery"
    who = ask(
        folder,
        dataset=options.dataset,
        side=options.orientation,
        way=options.by,
        threshold=options.threshold,
        top=options.top,
    )
    network = load_network(study, batch=options.batch)
    check_source(folder, who.gallery, network)
    for line in remarks(who):
        complain(line)
    output = _output(options, who)
    found = embedded(network, read_all(asked.paths, None, threads=THREADS), flips=who.answering.flips)
    parts = _parts(asked.shown(found), network.models.settings.slicing.batch)
    return asked.answer((row for part in parts for row in who.told(part)), output)


def _parts(found: "Iterable[Embedded]", size: int) -> "Iterator[list[Embedded]]":
    part: list[Embedded] = []
    for one in found:
        part.append(one)
        if len(part) >= size:
            yield part
            part = []
    yield part


def _output(options: argparse.Namespace, who: "Who") -> "Output":
    import instar
    from instar.identify.output import Json
    from instar.identify.who_output import Csv, Lines

    if options.csv:
        return Csv(sys.stdout, options.top)
    if not options.json:
        return Lines(sys.stdout)
    source = who.gallery.source
    head = {
        "instar": instar.__version__,
        "gallery": {"classifier": source.classifier, "image_px": source.image_px, "photographs": len(who.gallery.rows)},
        "individuals": len(who.gallery.known),
        "answered_by": who.answering.way,
        "datasets": who.datasets,
    }
    return Json(sys.stdout, head)
