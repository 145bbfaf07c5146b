"""`instar enroll`: make individuals known to a gallery."""

import argparse
import fcntl
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from instar.errors import InputError
from instar.files import replacing, sha256_of

if TYPE_CHECKING:
    import pandas as pd

    from instar.enroll.folder import Photograph
    from instar.identify.embedded import Embedded, Network
    from instar.reid.answering import Answering

_DESCRIPTION = """Make individuals known without training anew: each photograph of FOLDER goes through the detector, the
crop and the network of the study in params.yaml, and what it is compared by is added to a gallery. FOLDER has a folder
of photographs for each individual, itself or below 'images', or metadata.csv in the form of wildlife-datasets (identity
and path, and where it tells them date, orientation, species and dataset). The study's own gallery, which the stage
evaluation made, is never changed: the first time it is copied to --gallery. Ask that with
'instar identify --gallery'. Photographs that are there already, by their bytes, are passed over, so that a run that was
stopped can be repeated; what can't be read, or is there as another individual, is told, and the exit status is then 1.
Nothing is made where nothing is enrolled."""
PROG = "instar enroll"
#: Where galleries that grow lie, by the name of their study.
HOME = Path("galleries")
#: Photographs that are added at a time: what a run that is stopped loses at most.
PART = 1024


def enroll(words: list[str]) -> int:
    """Read the words of ``instar enroll`` and grow the gallery; 1 if a photograph is bad, see ``Growth``."""
    parser = argparse.ArgumentParser(prog=PROG, description=_DESCRIPTION)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="with the photographs")
    parser.add_argument("--gallery", type=Path, metavar="FOLDER", help=f"to grow; {HOME}/<study> if not given")
    told = "of the individuals, where metadata.csv tells none; the gallery's only one if not given"
    parser.add_argument("--dataset", help=told)
    parser.add_argument(
        "--new-dataset", action="store_true", help="let individuals be of a data set that the gallery does not have"
    )
    parser.add_argument("--batch", type=int, default=None, help="photographs through the network at a time")
    options = parser.parse_args(words)
    if options.batch is not None and options.batch < 1:
        parser.error(f"--batch {options.batch} is less than 1")
    return _enroll(options)


def _enroll(options: argparse.Namespace) -> int:
    from instar import params
    from instar.enroll.folder import clashes, counted, passed_over, read_photographs
    from instar.identify.embedded import check_individuals, check_source, load_network
    from instar.reid.answering import read_answering
    from instar.reid.gallery import open_gallery

    study = params.load()
    check_individuals(study)
    own = Path("data") / study.study / "gallery"
    gallery = options.gallery or HOME / study.study
    if gallery.resolve() == own.resolve():
        raise InputError(f"--gallery {gallery}: is the study's own, which is never changed; name another folder")
    before = _before(gallery, own)
    there = open_gallery(before)
    known = sorted(set(there.known.dataset))
    individuals = set(zip(there.known.identity, there.known.dataset, strict=True))
    photographs, left = read_photographs(options.folder, dataset=options.dataset, known=individuals)
    if not options.new_dataset:
        _check_datasets(options, photographs, before, known)
    if passed := passed_over(options.folder):
        _complain(f"{len(passed)} files passed over, since their endings are of no photograph, such as {passed[0]}")
    network = load_network(study, batch=options.batch)
    check_source(before, there, network)
    growth = Growth(gallery, own, network, read_answering(before))
    growth.add(photographs)
    for line in counted([*left, *growth.left]):
        _complain(line)
    for name in sorted({one.dataset for one in photographs} - set(known)):
        _complain(f"the data set {name} is new to the gallery: evaluation found no threshold of its own for it")
    names = f"{len(growth.new)} new individuals, {len(growth.met)} known ones"
    print(f"{gallery}: {growth.enrolled} photographs enrolled, of {names}; {len(left) + len(growth.left)} were not")
    return 1 if growth.bad or clashes(left) else 0


def _before(gallery: Path, own: Path) -> Path:
    """The gallery as it is before it grows: the study's own where there is none yet."""
    from instar.reid.gallery import MANIFEST

    if not gallery.exists():
        return own
    if not (gallery / MANIFEST).is_file():
        told = f"no gallery, and something else is there; name a new path, or a gallery that {PROG} made"
        raise InputError(f"--gallery {gallery}: {told}")
    return gallery


def _check_datasets(
    options: argparse.Namespace, photographs: "list[Photograph]", gallery: Path, known: list[str]
) -> None:
    first = {one.dataset: f"{one.path}: dataset {one.dataset}" for one in reversed(photographs)}
    if options.dataset is not None:
        first[options.dataset] = f"--dataset {options.dataset}"
    for name in sorted(first.keys() - set(known)):
        told = f"the gallery {gallery} has {', '.join(known) or 'none'}; name one of these, or add --new-dataset"
        raise InputError(f"{first[name]}: {told}")


def start_gallery(gallery: Path, own: Path) -> None:
    """Copy a study's gallery to where it may grow, unless there is one; a second run at the same time waits.

    Raises:
        InputError: if there is something else.
    """
    from instar.reid.gallery import open_gallery

    gallery.parent.mkdir(parents=True, exist_ok=True)
    with (gallery.parent / f".{gallery.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if gallery.exists():
            open_gallery(gallery)
            return
        with replacing(gallery) as temporary:
            # what the data version control keeps is not to be written to: copies, and no links
            shutil.copytree(own, temporary, ignore=shutil.ignore_patterns(".lock"), copy_function=_copied)


def _copied(source: str, target: str) -> None:
    shutil.copyfile(source, target)


@dataclass
class Growth:
    """Photographs on their way into a gallery.

    Attributes:
        gallery: its folder, which is made when the first photographs are added.
        own: the study's gallery, which it starts from.
        network: that makes the embeddings.
        answering: of the gallery.
        left: photographs that are not enrolled, each with the reason.
        new: individuals, each with its data set, that were not there before.
        met: those that were.
        enrolled: photographs.
        bad: photographs that could not be read, or are there as another individual.
    """

    gallery: Path
    own: Path
    network: "Network"
    answering: "Answering"
    left: list[tuple[str, str]] = field(default_factory=list)
    new: set[tuple[str, str]] = field(default_factory=set)
    met: set[tuple[str, str]] = field(default_factory=set)
    enrolled: int = 0
    bad: int = 0

    def add(self, photographs: "list[Photograph]") -> None:
        """Enroll them, some at a time."""
        from instar.identify.embedded import embedded
        from instar.identify.inputs import read_all
        from instar.photographs import THREADS
        from instar.progress import progress
        from instar.reid.gallery import open_gallery

        before = open_gallery(_before(self.gallery, self.own))
        individuals = set(zip(before.known.identity, before.known.dataset, strict=True))
        fresh = {str(one.path): (one, sha) for one, sha in self._fresh(photographs, before.rows)}
        pictures = read_all([one.path for one, _ in fresh.values()], None, threads=THREADS)
        found = embedded(self.network, pictures, flips=self.answering.flips)
        part: list[tuple[Photograph, str, Embedded]] = []
        for one in progress(found, "photographs looked at", len(fresh)):
            if one.problem or one.reason:
                self.left.append((one.name, str(one.problem or one.reason)))
                self.bad += one.problem is not None
                continue
            part.append((*fresh[one.name], one))
            if len(part) == PART:
                self._grow(part, individuals)
                part = []
        self._grow(part, individuals)

    def _fresh(self, photographs: "list[Photograph]", rows: "pd.DataFrame") -> "Iterator[tuple[Photograph, str]]":
        """Those whose bytes are not among a gallery's rows yet, with their sha256."""
        there: dict[str, set[tuple[str, str]]] = defaultdict(set)  # of a study with boxes a photograph shows several
        for sha, name, dataset in zip(rows["sha256"], rows["identity"], rows["dataset"], strict=True):
            there[sha].add((name, dataset))
        for one in photographs:
            try:
                sha = sha256_of(one.path)
            except OSError as error:
                self.left.append((str(one.path), f"can't be read ({error.strerror})"))
                self.bad += 1
                continue
            if not there[sha]:
                there[sha].add((one.identity, one.dataset))
                yield one, sha
            elif (one.identity, one.dataset) in there[sha]:
                self.left.append((str(one.path), "enrolled already"))
            else:
                told = " and ".join(f"{who[0]} of {who[1]}" for who in sorted(there[sha]))
                self.left.append((str(one.path), f"enrolled already as {told}"))
                self.bad += 1

    def _grow(self, part: "list[tuple[Photograph, str, Embedded]]", individuals: set[tuple[str, str]]) -> None:
        import pandas as pd

        from instar.reid.gallery import GALLERY, grow_gallery

        if not part:
            return
        rows = pd.DataFrame([_row(one, sha) for one, sha, _ in part], columns=GALLERY.names, dtype=object)
        start_gallery(self.gallery, self.own)
        grow_gallery(self.gallery, self.network.source, rows, np.stack([one.embedding for *_, one in part]))
        who = {(one.identity, one.dataset) for one, *_ in part}
        self.new |= who - individuals
        self.met |= who & individuals
        self.enrolled += len(part)


def _row(one: "Photograph", sha: str) -> dict[str, str | None]:
    # by its bytes: names of files and ids of tables come again in every folder
    key = f"enrolled-{sha[:32]}"
    return {
        "key": f"{key}-0",
        "photo_key": key,
        "identity": one.identity,
        "dataset": one.dataset,
        "species": one.species,
        "orientation": one.orientation,
        "encounter": one.encounter or key,
        "sha256": sha,
    }


def _complain(text: str) -> None:
    print(f"{PROG}: {text}", file=sys.stderr, flush=True)
