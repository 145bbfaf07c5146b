"""Everything of a drawn world but its pixels: who saw what, where, under which name, and what each photograph shows."""

import hashlib
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

import numpy as np

from instar.records.scenes import Scene
from instar.records.world_spec import VIEWS, Genus, Look, Range, Species, World, look_of

T = TypeVar("T")

BUCKET = "inaturalist-open-data.s3.amazonaws.com"
MUSEUM = "media.museum.example"
FIRST_PHOTO_ID, FIRST_OBSERVER_ID, FIRST_CATALOGUE_NUMBER = 310_000_000, 1_200_000, 120_000
#: Sizes of upright photographs, pixels; the last is wider than a tile.
SIZES = ((640, 480), (600, 450), (480, 360), (800, 600), (450, 600), (480, 480), (720, 540))
LARGE = (1400, 1050)
MUSEUM_LICENCES = ("CC-BY", "CC-BY", "CC-BY-SA", "CC0", "CC-BY-NC-SA", "C")
_SYLLABLES = ("an", "bo", "ca", "del", "fi", "gor", "ha", "jul", "ka", "lin", "mo", "ne", "ra", "so", "tam", "wi")


@dataclass(frozen=True)
class Photograph:
    """One photograph and its file; ``ants`` says that its insects are ants."""

    key: str
    photo_id: str
    url: str
    extension: str
    position: int
    scene: Scene
    ants: bool
    quality: int
    taken: str
    orientation: int = 1
    defect: str | None = None
    burst: str | None = None


@dataclass(frozen=True)
class Observer:
    """A person with a home (degrees) and one licence for all that they upload."""

    observer_id: int
    login: str
    name: str
    longitude: float
    latitude: float
    licence: str
    activity: float


@dataclass(frozen=True)
class Record:
    """One observation or specimen. ``label`` is the name it carries, ``rank`` that name's rank."""

    record_id: str
    species: str  # the truth
    label: str
    rank: str
    specimen: bool
    licence: str
    observed_at: datetime
    longitude: float | None
    latitude: float | None
    accuracy_m: int | None
    photographs: tuple[Photograph, ...]
    observer: Observer | None = None
    wrong: bool = False
    republished: bool = False

    @property
    def grade(self) -> str:
        """iNaturalist's quality grade."""
        if self.longitude is None:
            return "casual"
        return "research" if self.rank == "species" else "needs_id"


@dataclass(frozen=True)
class Plan:
    """A world before it is drawn."""

    world: World
    observers: list[Observer]
    observations: list[Record]
    specimens: list[Record]
    annotated: list[str] = field(default_factory=list)  # keys of photographs

    @property
    def records(self) -> list[Record]:
        """Observations, then specimens."""
        return self.observations + self.specimens

    @property
    def photographs(self) -> list[Photograph]:
        """All photographs, in the order of their records."""
        return [photograph for record in self.records for photograph in record.photographs]


def stable_int(*ids: object) -> int:
    """64 bits of a hash of some ids; the source of every random choice, so that none depends on another."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, ids)).encode()).digest()[:8], "big")


def stable_uuid(*ids: object) -> str:
    """A UUID of version 4's form from a hash of some ids."""
    digest = hashlib.sha256("\0".join(map(str, ids)).encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def chosen(items: Iterable[T], count: int, name: Callable[[T], str], *ids: object) -> set[str]:
    """The names of the ``count`` items whose hash is smallest: a random choice of exact size."""
    names = sorted(map(name, items), key=lambda item: stable_int(*ids, item))
    return set(names[:count])


def plan_world(world: World, seed: int) -> Plan:
    """Lay out a whole world; equal arguments give an equal plan."""
    observers = _observers(world, seed)
    records = [
        record
        for group in (world.ants, world.others)
        for genus in group.genera
        for species in genus.species
        for record in _observations(world, genus, species, group is world.ants, observers, seed)
    ]
    records = _numbered(records, seed)
    records = _sized(world, _labelled(world, records, seed), seed)
    specimens = _specimens(world, seed)
    plan = Plan(world, observers, _placed(records, world.shares.missing_coordinates, seed), specimens)
    plan = _spoiled(plan, seed)
    plan = replace(plan, observations=_republished(world, plan.observations, seed))
    return replace(plan, annotated=_annotated(plan, seed))


def _rng(*ids: object) -> np.random.Generator:
    return np.random.default_rng(stable_int(*ids))


def _weighted(weights: dict[str, float], rng: np.random.Generator) -> str:
    values = np.array(list(weights.values()), float)
    return list(weights)[int(rng.choice(len(values), p=values / values.sum()))]


def _observers(world: World, seed: int) -> list[Observer]:
    boxes = [box for _, species in world.species() for box in species.ranges]
    return [_observer(world, number, boxes, seed) for number in range(world.observers)]


def _observer(world: World, number: int, boxes: Sequence[Range], seed: int) -> Observer:
    rng = _rng(seed, "observer", number)
    longitude, latitude = _point(boxes[number % len(boxes)], rng)
    first, last = ("".join(rng.choice(_SYLLABLES, 2)) for _ in range(2))
    name = f"{first.title()} {last.title()}" if rng.random() < 0.7 else ""
    observer_id = FIRST_OBSERVER_ID + 37 * number + int(rng.integers(37))
    licence = _weighted(world.licences, rng)
    return Observer(observer_id, f"{first}_{last}{number}", name, longitude, latitude, licence, 1 / (number + 2))


def _point(box: Range, rng: np.random.Generator) -> tuple[float, float]:
    return float(rng.uniform(box.west, box.east)), float(rng.uniform(box.south, box.north))


def _sizes_of_observations(world: World, species: Species, seed: int) -> list[int]:
    """How many photographs each of a species' observations has; their sum is exact."""
    rng = _rng(seed, "sizes", species.name)
    weights = np.array(world.photographs_per_observation, float)
    if species.photographs < 10:
        weights = weights[:2]  # a rare species should not rest on one observation
    sizes: list[int] = []
    while (left := species.photographs - sum(sizes)) > 0:
        sizes.append(min(left, 1 + int(rng.choice(len(weights), p=weights / weights.sum()))))
    return sizes


def _observations(
    world: World, genus: Genus, species: Species, ants: bool, observers: Sequence[Observer], seed: int
) -> list[Record]:
    look, sizes = look_of(genus, species), _sizes_of_observations(world, species, seed)
    ids = [stable_uuid(seed, "observation", species.name, number) for number in range(len(sizes))]
    return [
        _observation(world, species, look, ants, size, record_id, observers)
        for size, record_id in zip(sizes, ids, strict=True)
    ]


def _observation(
    world: World, species: Species, look: Look, ants: bool, size: int, record_id: str, observers: Sequence[Observer]
) -> Record:
    rng = _rng(record_id)
    longitude, latitude = _point(species.ranges[int(rng.integers(len(species.ranges)))], rng)
    near = [o.activity * np.exp(-np.hypot(o.longitude - longitude, o.latitude - latitude) / 8) for o in observers]
    observer = observers[int(rng.choice(len(observers), p=np.array(near) / sum(near)))]
    when = datetime(2012, 1, 1) + timedelta(days=int(rng.integers(4700)), seconds=int(rng.integers(28800, 68400)))
    return Record(
        record_id=record_id,
        species=species.name,
        label=species.name,
        rank="species",
        specimen=False,
        licence=observer.licence,
        observed_at=when,
        longitude=longitude,
        latitude=latitude,
        accuracy_m=int(rng.gamma(1.2, 60)) + 3 if rng.random() < 0.8 else None,
        photographs=_field_photographs(world, look, ants, size, record_id, when),
        observer=observer,
    )


def _field_photographs(
    world: World, look: Look, ants: bool, size: int, record_id: str, when: datetime
) -> tuple[Photograph, ...]:
    burst = record_id if size > 1 and _rng(record_id, "burst").random() < world.shares.bursts else None
    return tuple(_field_photograph(world, look, ants, record_id, position, burst, when) for position in range(size))


def _field_photograph(
    world: World, look: Look, ants: bool, record_id: str, position: int, burst: str | None, when: datetime
) -> Photograph:
    of_file, of_scene = _rng(record_id, "file", position), _rng(record_id, "scene", 0 if burst else position)
    weights = np.array(world.ants_per_photograph if ants else [0, 1], float)
    insects = int(of_scene.choice(len(weights), p=weights / weights.sum()))
    width, height = SIZES[int(of_scene.integers(len(SIZES)))]
    seed = int(of_scene.integers(2**63))
    scene = Scene(look, seed, position if burst else 0, insects, False, width, height, "field")
    return Photograph(
        key="",
        photo_id="",
        url="",
        extension=_weighted(world.extensions, of_file),
        position=position,
        scene=scene,
        ants=ants,
        quality=int(of_file.integers(66, 88)),
        taken=(when + timedelta(seconds=3 * position)).isoformat(),
        burst=burst,
    )


def _numbered(records: Sequence[Record], seed: int) -> list[Record]:
    """Give photographs their ids in the order of time, as uploads come in."""
    numbered, photo_id = [], FIRST_PHOTO_ID
    for record in sorted(records, key=lambda record: (record.observed_at, record.record_id)):
        photographs = []
        for photograph in record.photographs:
            photo_id += 1 + stable_int(seed, "gap", photo_id) % 900
            url = f"https://{BUCKET}/photos/{photo_id}/original.{photograph.extension}"
            key = f"inaturalist-{photo_id}"
            photographs.append(replace(photograph, photo_id=str(photo_id), url=url, key=key))
        numbered.append(replace(record, photographs=tuple(photographs)))
    return numbered


def _labelled(world: World, records: Sequence[Record], seed: int) -> list[Record]:
    """Put some ants under their genus only, some under a wrong species, some under an old name."""
    ant_names = {species.name for _, species in world.species()}
    ants = [record for record in records if record.species in ant_names]
    n_genus, n_wrong = (round(share * len(ants)) for share in (world.shares.genus_level, world.shares.wrong_labels))
    at_genus = chosen(ants, n_genus, lambda r: r.record_id, seed, "genus level")
    rest = [record for record in ants if record.record_id not in at_genus]
    wrong = chosen(rest, n_wrong, lambda r: r.record_id, seed, "wrong")
    old = [r for r in rest if r.record_id not in wrong and r.species == world.synonym.accepted]
    renamed = chosen(old, world.synonym.observations, lambda r: r.record_id, seed, "synonym")

    def relabelled(record: Record) -> Record:
        if record.record_id in at_genus:
            return replace(record, label=record.species.split()[0], rank="genus")
        if record.record_id in wrong:
            return replace(record, label=_wrong_name(world, record, seed), wrong=True)
        if record.record_id in renamed:
            return replace(record, label=world.synonym.name)
        return record

    return [relabelled(record) for record in records]


def _wrong_name(world: World, record: Record, seed: int) -> str:
    """Another species' name: more likely of the same genus, and of a common species."""
    rng = _rng(seed, "wrong name", record.record_id)
    within = rng.random() < world.shares.wrong_within_genus
    genus = record.species.split()[0]
    others = [s for g, s in world.species() if s.name != record.species and (g.name == genus) == within]
    others = others or [s for _, s in world.species() if s.name != record.species]
    return _weighted({s.name: s.photographs**0.5 for s in others}, rng)


def _sized(world: World, records: Sequence[Record], seed: int) -> list[Record]:
    """Make the insects of some scenes tiny, and the pictures of some others large."""
    scenes = {str(p.scene.seed) for r in records for p in r.photographs}
    tiny = chosen(scenes, round(world.shares.tiny * len(scenes)), str, seed, "tiny")
    large = chosen(scenes - tiny, round(world.shares.large * len(scenes)), str, seed, "large")

    def resized(photograph: Photograph) -> Photograph:
        scene = photograph.scene
        width, height = LARGE if str(scene.seed) in large else (scene.width, scene.height)
        return replace(photograph, scene=replace(scene, tiny=str(scene.seed) in tiny, width=width, height=height))

    return [replace(r, photographs=tuple(resized(p) for p in r.photographs)) for r in records]


def _placed(records: Sequence[Record], share_missing: float, seed: int) -> list[Record]:
    without = chosen(records, round(share_missing * len(records)), lambda r: r.record_id, seed, "no coordinates")
    nowhere = {"longitude": None, "latitude": None, "accuracy_m": None}
    return [replace(r, **nowhere) if r.record_id in without else r for r in records]  # type: ignore[arg-type]


def _specimens(world: World, seed: int) -> list[Record]:
    records: list[Record] = []
    for genus, species in world.species():
        for number in range(species.specimens):
            catalogue = f"IMMENT{FIRST_CATALOGUE_NUMBER + 7 * len(records):06d}"
            old = species.name == world.synonym.accepted and number < world.synonym.specimens
            label = world.synonym.name if old else species.name
            records.append(_specimen(look_of(genus, species), species, label, catalogue, number, seed))
    return _placed(records, world.shares.specimens_without_coordinates, seed)


def _specimen(look: Look, species: Species, label: str, catalogue: str, number: int, seed: int) -> Record:
    rng = _rng(seed, "specimen", catalogue)
    longitude, latitude = _point(species.ranges[0], rng)
    collected = datetime(1931, 5, 1) + timedelta(days=int(rng.integers(30000)))
    views = VIEWS[: 1 + (number + len(species.name)) % 3]
    return Record(
        record_id=catalogue,
        species=species.name,
        label=label,
        rank="species",
        specimen=True,
        licence=MUSEUM_LICENCES[int(rng.integers(len(MUSEUM_LICENCES)))],
        observed_at=collected,
        longitude=longitude,
        latitude=latitude,
        accuracy_m=None,
        photographs=tuple(_view(look, catalogue, view, at, seed) for at, view in enumerate(views)),
    )


def _view(look: Look, catalogue: str, view: str, position: int, seed: int) -> Photograph:
    url = f"https://{MUSEUM}/specimens/{catalogue}_{view}.jpg"
    photo_id = hashlib.sha1(url.encode()).hexdigest()[:16]
    rng = _rng(seed, "view", url)
    width, height = ((640, 480), (800, 600))[int(rng.integers(2))]
    scene = Scene(look, stable_int(seed, url) >> 1, 0, 1, False, width, height, view, catalogue)
    taken = (datetime(2009, 3, 2, 10) + timedelta(hours=int(rng.integers(90000)))).isoformat()
    return Photograph(f"gbif-{photo_id}", photo_id, url, "jpg", position, scene, True, 88, taken)


def _spoiled(plan: Plan, seed: int) -> Plan:
    """Deal out unusable files and EXIF orientations."""
    kinds = asdict(plan.world.defects)
    jpegs = [p for r in plan.observations for p in r.photographs if p.extension != "png" and p.ants]
    order = sorted((p.key for p in jpegs), key=lambda key: stable_int(seed, "defect", key))
    defects = dict(zip(order, [kind for kind, count in kinds.items() for _ in range(count)], strict=False))
    turned = order[len(defects) :][: round(plan.world.shares.rotated * len(jpegs))]
    orientations = {key: plan.world.orientations[i % len(plan.world.orientations)] for i, key in enumerate(turned)}

    def spoil(photograph: Photograph) -> Photograph:
        key = photograph.key
        return replace(photograph, defect=defects.get(key), orientation=orientations.get(key, 1))

    observations = [replace(r, photographs=tuple(map(spoil, r.photographs))) for r in plan.observations]
    return replace(plan, observations=observations)


def _republished(world: World, records: Sequence[Record], seed: int) -> list[Record]:
    """Mark observations that GBIF holds, too: research grade, and of the three licences that GBIF takes."""
    research = [r for r in records if r.grade == "research"]
    wanted = world.shares.republished * sum(len(r.photographs) for r in research)
    eligible = [r for r in research if r.licence in ("CC0", "CC-BY", "CC-BY-NC")]
    taken: set[str] = set()
    for record in sorted(eligible, key=lambda r: stable_int(seed, "republished", r.record_id)):
        if wanted <= 0:
            break
        taken.add(record.record_id)
        wanted -= len(record.photographs)
    return [replace(r, republished=r.record_id in taken) for r in records]


def _annotated(plan: Plan, seed: int) -> list[str]:
    usable = [p for p in plan.photographs if p.ants and p.defect is None]
    count = round(plan.world.shares.annotated * len(usable))
    return sorted(chosen(usable, count, lambda p: p.key, seed, "annotated"))
