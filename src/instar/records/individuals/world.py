"""Drawn individuals in the files of AnimalCLEF25, and the solution of their queries beside them."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import cv2
import numpy as np

from instar.files import replacing, write_csv
from instar.progress import progress
from instar.records.individuals.picture import Shot, draw
from instar.records.individuals.spec import Species, World, load_individuals
from instar.records.individuals.table import SUBMISSION, TABLE
from instar.records.world import drawing_pool
from instar.records.world_plan import chosen, stable_int
from instar.tables import NEW_INDIVIDUAL

COLUMNS = ("image_id", "identity", "path", "date", "orientation", "species", "split", "dataset", "licence")
#: Drawn photographs are nobody's.
LICENCE = "cc0"
#: Below ``truth``: who is to be seen on each query.
SOLUTION, SOLUTION_COLUMNS = "solution.csv", ("image_id", "identity", "individual")
#: Fewer are drawn faster than other processes start.
_FEW = 300


@dataclass(frozen=True)
class Photo:
    """One photograph before it is drawn."""

    shot: Shot
    species: Species
    day: str  # ISO 8601; empty where nobody noted it
    part: str  # database or query
    is_new: bool  # whether the database does not know its individual
    image_id: int = 0

    @property
    def path(self) -> str:
        name = f"{stable_int('file', self.shot.encounter, self.shot.number, self.shot.seed):016x}"
        return f"images/{self.species.dataset}/{self.part}/{name}.jpg"

    @property
    def row(self) -> tuple[object, ...]:
        """As ``COLUMNS``."""
        identity = self.shot.individual if self.part == "database" else ""
        told = self.day, self.shot.orientation, self.species.name, self.part, self.species.dataset, LICENCE
        return self.image_id, identity, self.path, *told


def draw_individuals(source: Path, out: Path, *, seed: int, processes: int | None = None) -> None:
    """Draw photographs of individuals and write them as AnimalCLEF25's files come.

    ``metadata.csv`` lists all, ``sample_submission.csv`` the queries; ``truth/solution.csv`` says who is to be seen on
    these. Who is queried was met before in the database, on another day, or is new and in no photograph of it.

    Args:
        source: description, YAML; see ``individuals.spec``.
        out: folder to write, replaced as a whole.
        seed: of every random choice; equal description and seed give equal bytes.
        processes: to draw with; as many as there are cores if None. The result does not depend on it.

    Raises:
        InputError: if the description is missing or wrong.
    """
    world = load_individuals(source)
    photos = plan_individuals(world, seed)
    with replacing(out) as folder:
        folder.mkdir()
        _draw_all(photos, folder, world.quality, processes)
        write_csv(folder / TABLE, COLUMNS, (photo.row for photo in photos))
        queries = [photo for photo in photos if photo.part == "query"]
        write_csv(folder / SUBMISSION, ("image_id", "identity"), ((one.image_id, NEW_INDIVIDUAL) for one in queries))
        write_csv(folder / "truth" / SOLUTION, SOLUTION_COLUMNS, map(_solution, queries))


def plan_individuals(world: World, seed: int) -> list[Photo]:
    """Every photograph, those of a data set together, in the order of the table."""
    photos = [photo for species in world.species for photo in _ordered(_of_species(world, species, seed), seed)]
    return [replace(photo, image_id=number) for number, photo in enumerate(photos)]


def _ordered(photos: Iterator[Photo], seed: int) -> list[Photo]:
    """Within a data set, so that neither ids nor places tell who is on them."""
    return sorted(photos, key=lambda one: stable_int("order", one.path, seed))


def _of_species(world: World, species: Species, seed: int) -> Iterator[Photo]:
    names = [f"{species.dataset}_{i:03}" for i in range(species.individuals + species.new)]
    # numbers that tell nothing of who is known
    new = chosen(names, species.new, str, "new", seed)
    known = [name for name in names if name not in new]
    once = chosen(known, species.seen_once, str, "once", seed)
    often = [name for name in known if name not in once]
    days = {name: _days(world, species, name, seed) for name in names}
    several = [name for name in often if len(days[name]) > 1]
    queried = chosen(several, round(species.queried * len(several)), str, "queried", seed)
    for name in names:
        met = days[name][:1] if name in once else days[name]
        for i, day in enumerate(met):
            last = i == len(met) - 1
            part = "query" if name in new or (name in queried and last) else "database"
            # whoever is in the database on one day only has two photographs of it, or would be seen once
            fewest = 2 if part == "database" and len(met) - (name in queried) == 1 else 1
            count = 1 if name in once else None
            yield from _encounter(world, species, name, day, part, name in new, seed, fewest=fewest, count=count)


def _days(world: World, species: Species, name: str, seed: int) -> list[date]:
    """The days on which an individual was met, in order, no two alike."""
    rng = np.random.default_rng(stable_int("days", name, seed))
    count = min(int(rng.integers(species.encounters[0], species.encounters[1] + 1)), world.days)
    after = np.sort(rng.choice(world.days, count, replace=False))
    return [date.fromisoformat(world.first_day) + timedelta(days=int(days)) for days in after]


def _encounter(
    world: World,
    species: Species,
    name: str,
    day: date,
    part: str,
    is_new: bool,
    seed: int,
    *,
    fewest: int,
    count: int | None,
) -> Iterator[Photo]:
    """The photographs of one day, of all sides where there are enough."""
    rng = np.random.default_rng(stable_int("encounter", name, day, seed))
    drawn = max(fewest, int(rng.integers(species.photographs[0], species.photographs[1] + 1)))
    told = "" if rng.random() < world.undated else day.isoformat()
    sides = list(rng.permutation(species.orientations))
    for number in range(drawn if count is None else count):
        shot = Shot(
            species.pattern,
            name,
            str(sides[number % len(sides)]),
            f"{name}@{day}",
            number,
            world.width,
            world.height,
            world.blur,
            seed,
        )
        yield Photo(shot, species, told, part, is_new)


def _draw_all(photos: Sequence[Photo], folder: Path, quality: int, processes: int | None) -> None:
    for below in {(folder / photo.path).parent for photo in photos}:
        below.mkdir(parents=True)
    jobs = [(photo.shot, folder / photo.path, quality) for photo in photos]
    count = processes or (os.cpu_count() or 1 if len(photos) > _FEW else 1)
    if count == 1:
        for job in progress(jobs, "photographs drawn"):
            _draw_file(job)
        return
    with drawing_pool(count) as pool:
        for _ in progress(pool.map(_draw_file, jobs, chunksize=8), "photographs drawn", len(jobs)):
            pass


def _draw_file(job: tuple[Shot, Path, int]) -> None:
    shot, path, quality = job
    data = cv2.imencode(".jpg", cv2.cvtColor(draw(shot), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    path.write_bytes(data.tobytes())


def _solution(photo: Photo) -> tuple[object, ...]:
    identity = NEW_INDIVIDUAL if photo.is_new else photo.shot.individual
    return photo.image_id, identity, photo.shot.individual
