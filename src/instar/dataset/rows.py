"""The crops of a shard as numbers: what the rules and the split need of each, kept in a scratch file between passes."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import feather

from instar.tables import CROPS, TAXONOMY, read_batches, read_table

#: No hash, or no place and day. As a value of sha256 it is as likely as any, one in 2⁶⁴.
NOTHING = np.uint64(0)
#: Degrees of latitude and longitude are told apart to this part: 100 m at the equator.
PLACE_PARTS = 1000

#: A crop in the scratch files.
SCRATCH = pa.schema(
    [
        pa.field("label", pa.int32()),  # place in Classes.names, -1 for none
        pa.field("reason", pa.uint8()),  # place in rules.REASONS, 0 for none
        pa.field("key", pa.uint64()),  # hashes of the ids
        pa.field("observation", pa.uint64()),
        pa.field("observer", pa.uint64()),  # NOTHING where the source tells none
        pa.field("phash", pa.uint64()),  # of the photograph; NOTHING where there is none
        pa.field("place_day", pa.uint64()),  # where to 0.001° and on which day; NOTHING where either is missing
    ]
)
#: Columns of crops that hold few distinct strings.
DICTIONARIES = ["taxon_id", "licence", "shard", "basis", "reason"]
NUMBERS = ["key", "observation", "observer", "phash", "place_day"]


@dataclass(frozen=True)
class Classes:
    """The labels that crops can have: species and, for crops named to genus, genera.

    Attributes:
        names: of the labels.
        genera: of each label; a genus is its own.
        is_species: bool, shape (n,).
        taxon_ids: of the taxonomy.
        label_of: int32, place among the labels for each of ``taxon_ids``; -1 above genus.
    """

    names: tuple[str, ...]
    genera: tuple[str, ...]
    is_species: np.ndarray
    taxon_ids: tuple[str, ...]
    label_of: np.ndarray

    @cached_property
    def genus_codes(self) -> np.ndarray:
        """int64, shape (n,): equal numbers for labels of one genus."""
        return np.unique(np.array(self.genera, object), return_inverse=True)[1]

    def labels(self, taxon_ids: pa.DictionaryArray) -> np.ndarray:
        """Labels of taxa, int32; -1 for those above genus and for unknown or missing ones."""
        places = pc.index_in(taxon_ids.dictionary, value_set=pa.array(self.taxon_ids, pa.string()))
        places = pc.fill_null(places, len(self.taxon_ids)).to_numpy(zero_copy_only=False)
        labels = np.append(np.append(self.label_of, np.int32(-1))[places], np.int32(-1))
        return labels[pc.fill_null(taxon_ids.indices, len(places)).to_numpy(zero_copy_only=False)]


def read_classes(taxonomy: Path) -> Classes:
    """The labels of a taxonomy, species and genera by name."""
    rows = read_table(taxonomy, TAXONOMY).to_pylist()
    # a species' name without a genus is a hole in the taxonomy; the hierarchy can't place it
    named = {row["taxon_id"]: (row["species"] or row["genus"], row) for row in rows if row["genus"]}
    genus_of = {name: row["genus"] for name, row in named.values()}
    species = {name: row["species"] is not None for name, row in named.values()}
    names = sorted(genus_of)
    place = {name: number for number, name in enumerate(names)}
    ids = tuple(row["taxon_id"] for row in rows)
    return Classes(
        names=tuple(names),
        genera=tuple(genus_of[name] for name in names),
        is_species=np.array([species[name] for name in names], bool),
        taxon_ids=ids,
        label_of=np.array([place[named[taxon][0]] if taxon in named else -1 for taxon in ids], np.int32),
    )


def crop_batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Columns of the rows of a crops table that are crops; the others carry the reason why there is none."""
    for batch in read_batches(path, CROPS, [*columns, "reason"], dictionaries=DICTIONARIES):
        yield batch.filter(batch["reason"].is_null()).select(columns)


def hashes(batch: pa.RecordBatch, column: str) -> np.ndarray:
    """A column of hashes, uint64; NOTHING for null."""
    return np.asarray(pc.fill_null(batch[column], NOTHING).to_numpy(zero_copy_only=False), np.uint64)


def place_days(batch: pa.RecordBatch) -> np.ndarray:
    """Where to 0.001° and on which day (UTC) a crop's photograph was taken, as one uint64; NOTHING if unknown."""
    known = pc.and_(
        pc.and_(batch["latitude"].is_valid(), batch["longitude"].is_valid()), batch["observed_at"].is_valid()
    )
    latitude = batch["latitude"].to_numpy(zero_copy_only=False)
    longitude = batch["longitude"].to_numpy(zero_copy_only=False)
    seconds = pc.fill_null(batch["observed_at"].cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        north = np.rint((latitude + 90) * PLACE_PARTS).astype(np.int64)
        east = np.rint((longitude + 180) * PLACE_PARTS).astype(np.int64) % (360 * PLACE_PARTS)
    day = seconds // 86_400 + (1 << 17)  # from the year 1611 on above 0
    number = ((north << 19 | east) << 18 | day).astype(np.uint64)
    return np.where(known.to_numpy(zero_copy_only=False), number, NOTHING)


class Scratch:
    """Files between the passes, one of each kind for a shard; they must lie where all workers see them."""

    def __init__(self, folder: Path, shards: list[str]) -> None:
        self._folder = folder
        self.shards = shards
        for kind in ("rows", "reasons", "duplicates", "dropped", "near_earlier", "codes"):
            (folder / kind).mkdir(parents=True, exist_ok=True)

    def path(self, kind: str, number: int) -> Path:
        return self._folder / kind / str(number)

    def write_rows(self, number: int, columns: dict[str, np.ndarray]) -> None:
        table = pa.table({field.name: columns[field.name] for field in SCRATCH}, schema=SCRATCH)
        feather.write_feather(table, self.path("rows", number), compression="uncompressed")

    def rows(self, number: int, columns: list[str]) -> dict[str, np.ndarray]:
        table = feather.read_table(self.path("rows", number), columns=columns, memory_map=False)
        return {name: table[name].combine_chunks().to_numpy() for name in columns}

    def write_flat(self, kind: str, number: int, values: np.ndarray) -> None:
        """Write "reasons" (uint8, of each row), "near_earlier" (int64, places of rows) or "codes" (uint8, of each row).

        A cluster repeats what a lost worker had done, so no pass writes over what it reads.
        """
        values.tofile(self.path(kind, number))

    def reasons(self, number: int) -> np.ndarray:
        return np.fromfile(self.path("reasons", number), np.uint8)

    def codes(self, number: int) -> np.ndarray:
        return np.fromfile(self.path("codes", number), np.uint8)

    def near_earlier(self, number: int) -> np.ndarray:
        path = self.path("near_earlier", number)  # there only where an earlier split was given
        return np.fromfile(path, np.int64) if path.exists() else np.zeros(0, np.int64)
