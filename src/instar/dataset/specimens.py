"""Photographs of single specimens with the names that barcoding gave them: further crops to learn from."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from instar.dataset.taxa import ABOVE_CLASS, Labelled, Row
from instar.decode import UndecodableError, upright
from instar.errors import InputError
from instar.files import replacing
from instar.licences import normalise
from instar.lineages import TAXON_RANKS, Lineage, read_lineages
from instar.photographs import jpeg_of, shrunk_image
from instar.progress import progress
from instar.shards import ShardWriter, writing
from instar.splits import id_hash
from instar.tables import CROPS, SPECIMENS_SHARD, write_table

SOURCE = "specimens"
IDS = ("processid", "sampleid")
LICENCES = ("licence", "license", "image_licence", "image_license")
HOLDERS = ("rights_holder", "copyright_holder", "copyright_holders")
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
NOT_NAMED = "no row in the table"
MALFORMED = "its row has a field too many or too few"
OTHER_PARENT = "other taxa above its name than above the same name before"
#: Bytes of a key: a tar takes names of 100 with their ending.
LONGEST = 90
#: What BOLD puts between an id and what else a file's name says.
_BEHIND_ID = "+_ (."
_NO_NAMES = {"", "none", "unknown", "unidentified", "null"}


@dataclass
class Specimens:
    """Crops of specimens with their labels, and the photographs that gave none, by reason."""

    labelled: list[Labelled] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def no_specimens(out: Path) -> None:
    """Write the folder of a study without specimens."""
    _write(out, lambda _: iter(()))


def read_specimens(folder: Path, taxonomy: Path, out: Path, *, max_px: int, jpeg_quality: int) -> Specimens:
    """Read photographs of specimens, each named by its processid or sampleid, and store them as crops.

    The table is BOLD's data package, or one like it: tab- or comma-separated with processid or sampleid, class, order
    and family; licence and rights_holder where known. A photograph whose licence is not told has the licence unknown.

    Args:
        folder: with one table and the photographs, in folders or not; without a table there are no specimens.
        taxonomy: table of the study's taxa.
        out: folder; gets ``specimens.tar`` and ``specimens.parquet``, as ``crops`` has them.
        max_px: longer side of a crop.
        jpeg_quality: of the crops.

    Of a name that the study's taxonomy has, the taxonomy tells what is above it; the table tells it of other names. A
    specimen whose name has other taxa above it than earlier specimens' is dropped: a taxon has one parent.

    Raises:
        InputError: if there are two tables, or the table lacks a column or is not UTF-8.
    """
    tables = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".tsv", ".csv", ".txt"))
    if len(tables) > 1:
        raise InputError(f"{tables[1]}: is there beside {tables[0].name}; keep one table of specimens")
    found = Specimens()
    if not tables:
        no_specimens(out)
        return found
    named = _named(tables[0])
    lineages = read_lineages(taxonomy)
    photographs = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    keys = _keys([path.relative_to(folder) for path in photographs])
    above: dict[tuple[str, int], str] = {}

    def crops(tar: ShardWriter) -> Iterator[Row]:
        for path, key in zip(progress(photographs, "specimens"), keys, strict=True):
            row = _row_of(path.stem, named)
            told = lineages.lineage_of((rank, row[rank]) for rank in TAXON_RANKS) if row else ()
            lineage = lineages.completed(told) if told else ()
            if row is None or not any(lineage):
                found.dropped[NOT_NAMED if row is None else ABOVE_CLASS if row else MALFORMED] += 1
                continue
            if any(above.setdefault(pair, name) != name for pair, name in _ancestors(lineage)):
                found.dropped[OTHER_PARENT] += 1
                continue
            try:
                picture = shrunk_image(upright(path.read_bytes()), max_px)
            except UndecodableError as error:
                found.dropped[str(error)] += 1
                continue
            member = tar.add(f"{key}.jpg", jpeg_of(picture, jpeg_quality))
            stored = {"offset": member.offset, "size": member.size, "sha256": member.sha256}
            crop = _crop(key, row, picture.size) | stored
            found.labelled.append(_labelled(crop, lineage))
            yield crop

    _write(out, crops)
    return found


def _ancestors(lineage: Lineage) -> list[tuple[tuple[str, int], str]]:
    """Each name with the place of a rank above it, and the name there."""
    named = [(place, name) for place, name in enumerate(lineage) if name]
    return [((name, place), above) for (_, name), (place, above) in combinations(named, 2)]


def _keys(paths: list[Path]) -> list[str]:
    """A key for each photograph: its path with hyphens; its hash where that is long or another's, too."""
    plain = [f"{SOURCE}-{path.with_suffix('').as_posix().replace('/', '-')}" for path in paths]
    count = Counter(plain)
    return [
        key if count[key] == 1 and len(key.encode()) <= LONGEST else f"{SOURCE}-{id_hash(path.as_posix()):016x}"
        for key, path in zip(plain, paths, strict=True)
    ]


def _write(out: Path, crops: Callable[[ShardWriter], Iterator[Row]]) -> None:
    with replacing(out) as temporary:
        temporary.mkdir(parents=True)
        with writing(temporary / "specimens.tar") as tar:
            rows = list(crops(tar))
        write_table(temporary / "specimens.parquet", rows, CROPS)


def _named(path: Path) -> dict[str, dict[str, str]]:
    """Rows of the table by each of their ids; a row with another number of fields than the heading is empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            heading = file.readline()
            file.seek(0)
            is_tabbed = "\t" in heading  # and then nothing is quoted
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if is_tabbed else csv.DictReader(file)
            columns = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
            missing = [name for name in TAXON_RANKS if name not in columns]
            if missing or not any(name in columns for name in IDS):
                raise InputError(
                    f"{path}: column {missing[0] if missing else IDS[0]} is missing; it needs "
                    f"{' or '.join(IDS)}, {', '.join(reversed(TAXON_RANKS))}"
                )
            found: dict[str, dict[str, str]] = {}
            for given in rows:
                row = {low: (given[name] or "").strip() for low, name in columns.items()}
                row |= {rank: "" for rank in TAXON_RANKS if row[rank].lower() in _NO_NAMES}
                # where DictReader puts what is too much, and instead of what is missing
                is_whole = None not in given and None not in given.values()
                found.update({row[name]: row if is_whole else {} for name in IDS if row.get(name)})
            return found
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a table in UTF-8 ({error}); save it as one") from None


def _row_of(stem: str, named: dict[str, dict[str, str]]) -> dict[str, str] | None:
    """The row of a photograph: its name is an id, or begins with one, of several with the longest."""
    ends = [len(stem), *(n for n in range(len(stem) - 1, 0, -1) if stem[n] in _BEHIND_ID)]
    return next((named[stem[:end]] for end in ends if stem[:end] in named), None)


def _crop(key: str, row: dict[str, str], size: tuple[int, int]) -> Row:
    """A row of ``tables.CROPS``; where it lies is not told."""
    specimen = row.get("sampleid") or row["processid"]
    width, height = size
    return {
        "photo_key": key,
        "key": key,
        "x_min": 0.0,
        "y_min": 0.0,
        "x_max": float(width),
        "y_max": float(height),
        "detector": "none",
        "source": SOURCE,
        "photo_id": key.removeprefix(f"{SOURCE}-"),
        "observation_id": f"{SOURCE}-{specimen}",
        "basis": "specimen",
        "licence": normalise(next((row[name] for name in LICENCES if row.get(name)), None)),
        "rights_holder": next((row[name] for name in HOLDERS if row.get(name)), None),
        "shard": SPECIMENS_SHARD,
        "key_hash": id_hash(key),
        "width": width,
        "height": height,
        "box_width": float(width),
        "box_height": float(height),
        "area": width * height,
    }


def _labelled(crop: Row, lineage: Lineage) -> Labelled:
    absent = {"observer_id": None, "latitude": None, "longitude": None}
    return Labelled({**absent, **crop}, split="train", sure=lineage)
