"""The tables of iNaturalist's open data for a drawn world."""

import gzip
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from instar.records.world_plan import Photograph, Plan, Record, stable_int, stable_uuid

#: Ranks above the family, as iNaturalist numbers them: taxon id, rank level, rank, name.
TRUNK = (
    (48460, 100, "stateofmatter", "Life"),
    (1, 70, "kingdom", "Animalia"),
    (47120, 60, "phylum", "Arthropoda"),
    (372739, 57, "subphylum", "Hexapoda"),
    (47158, 50, "class", "Insecta"),
)
ORDER_LEVEL, FAMILY_LEVEL, GENUS_LEVEL, SPECIES_LEVEL = 40, 30, 20, 10
FIRST_TAXON_ID = 1_700_000

PHOTOS = (
    *("photo_uuid", "photo_id", "observation_uuid", "observer_id", "extension"),
    *("license", "width", "height", "position"),
)
OBSERVATIONS = (
    *("observation_uuid", "observer_id", "latitude", "longitude"),
    *("positional_accuracy", "taxon_id", "quality_grade", "observed_on"),
)
TAXA = ("taxon_id", "ancestry", "rank_level", "rank", "name", "active")
OBSERVERS = ("observer_id", "login", "name")


def write_inaturalist(folder: Path, plan: Plan) -> None:
    """The four tables of iNaturalist's open data, tab separated in spite of their name."""
    folder.mkdir(parents=True)
    taxa = {name: row["taxon_id"] for name, row in inaturalist_taxa(plan).items()}
    pairs = [(record, photograph) for record in plan.observations for photograph in record.photographs]
    _write_gzip(folder / "photos.csv.gz", PHOTOS, (_photo_row(*pair) for pair in pairs))
    rows = (_observation_row(record, taxa[record.label]) for record in plan.observations)
    _write_gzip(folder / "observations.csv.gz", OBSERVATIONS, rows)
    _write_gzip(folder / "taxa.csv.gz", TAXA, inaturalist_taxa(plan).values())
    observers = ({"observer_id": o.observer_id, "login": o.login, "name": o.name} for o in plan.observers)
    _write_gzip(folder / "observers.csv.gz", OBSERVERS, observers)


def _write_gzip(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    text = "".join(tab_separated(columns, rows))
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def tab_separated(columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> Iterator[str]:
    """Lines of a tab-separated file with its header; None becomes empty."""
    names = list(columns)
    yield "\t".join(names) + "\n"
    for row in rows:
        values = (row.get(name) for name in names)
        yield "\t".join("" if value is None else str(value) for value in values) + "\n"


def _photo_row(record: Record, photograph: Photograph) -> dict[str, object]:
    values = (
        stable_uuid("photo", photograph.key),
        photograph.photo_id,
        record.record_id,
        record.observer.observer_id if record.observer else None,
        photograph.extension,
        record.licence,
        photograph.scene.width,
        photograph.scene.height,
        photograph.position,
    )
    return dict(zip(PHOTOS, values, strict=True))


def _observation_row(record: Record, taxon_id: object) -> dict[str, object]:
    values = (
        record.record_id,
        record.observer.observer_id if record.observer else None,
        _degrees(record.latitude),
        _degrees(record.longitude),
        record.accuracy_m,
        taxon_id,
        record.grade,
        record.observed_at.date(),
    )
    return dict(zip(OBSERVATIONS, values, strict=True))


def _degrees(value: float | None) -> str | None:
    return None if value is None else f"{value:.10f}"


def inaturalist_taxa(plan: Plan) -> dict[str, dict[str, object]]:
    """The tree as rows of ``taxa``, by name; the synonym is there, inactive."""
    rows: dict[str, dict[str, object]] = {}

    def add(taxon_id: int, level: int, rank: str, name: str, parent: str | None, active: bool = True) -> None:
        above = rows[parent] if parent else None
        ancestry = f"{above['ancestry']}/{above['taxon_id']}".lstrip("/") if above else ""
        values = (taxon_id, ancestry, level, rank, name, str(active).lower())
        rows[name] = dict(zip(TAXA, values, strict=True))

    for i, (taxon_id, level, rank, name) in enumerate(TRUNK):
        add(taxon_id, level, rank, name, TRUNK[i - 1][3] if i else None)
    for group in (plan.world.ants, plan.world.others):
        add(taxon_id_of(group.order), ORDER_LEVEL, "order", group.order, "Insecta")
        add(taxon_id_of(group.family), FAMILY_LEVEL, "family", group.family, group.order)
        for genus in group.genera:
            add(taxon_id_of(genus.name), GENUS_LEVEL, "genus", genus.name, group.family)
            for species in genus.species:
                add(taxon_id_of(species.name), SPECIES_LEVEL, "species", species.name, genus.name)
    old = plan.world.synonym.name
    add(taxon_id_of(old), SPECIES_LEVEL, "species", old, old.split()[0], active=False)
    return rows


def taxon_id_of(name: str) -> int:
    """iNaturalist's id of a name: the real one of the real groups, a made-up one of all others."""
    known = {"Hymenoptera": 47201, "Formicidae": 47336, "Coleoptera": 47208}
    return known.get(name, FIRST_TAXON_ID + stable_int("taxon", name) % 1_000_000)
