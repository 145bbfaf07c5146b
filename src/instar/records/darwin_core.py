"""Darwin Core Archives: tables in a zip file or a folder, described by its meta.xml.

The format is https://dwc.tdwg.org/text/: which file holds what, in which order the fields stand, what separates them
and which value an absent one has, is all said by meta.xml and by nothing else.
"""

import codecs
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.compute as pc

from instar.errors import InputError
from instar.records.delimited import Malformed, Text, batches, first_row

_NAMESPACE = "{http://rs.tdwg.org/dwc/text/}"

#: A zip whose members are larger than this many bytes and this many times their packed size is taken for a bomb.
#: Tables of occurrences pack 5 to 20 times; DEFLATE's limit, which bombs come near to, is 1032 (zlib.net).
BOMB_BYTES, BOMB_RATIO = 100 << 20, 200
#: A meta.xml is read whole; real ones have some tens of kilobytes.
META_BYTES = 10 << 20

_ESCAPES = {"\\t": "\t", "\\n": "\n", "\\r": "\r", "\\r\\n": "\r\n", "\\\\": "\\"}


@dataclass(frozen=True)
class Table:
    """The core or an extension of an archive.

    Attributes:
        row_type: last part of the URI that says what a row is: ``Occurrence``, ``Multimedia``, …
        texts: its files; nearly always one.
        id_position: of the core row's id.
        positions: of each term's field, by the last part of the term's URI.
        defaults: of terms whose field is empty or absent.
    """

    row_type: str
    texts: tuple[Text, ...]
    id_position: int
    positions: dict[str, int]
    defaults: dict[str, str]

    def read(self, terms: list[str], malformed: Malformed | None = None) -> Iterator[pa.RecordBatch]:
        """Batches with the column ``id`` and one for each term, as strings; all null where the table has no such term.

        Args:
            terms: the terms' names.
            malformed: gets the rows with more fields than the first line, or with bytes that are not in the encoding.
                Its ``id_position`` is set to that of the id.

        Raises:
            InputError: if there are such rows and no ``malformed``, or they are most; or if a text cannot be read.
        """
        if malformed:
            malformed.id_position = self.id_position
        for text in self.texts:
            first = first_row(text, after=text.heading)
            if not first:
                continue
            if text.heading:
                first = max(first, first_row(text, after=0), key=len)
            present = {term: self.positions[term] for term in terms if term in self.positions}
            wanted = {"id": self.id_position, **present}
            names = dict(zip(wanted.values(), wanted, strict=False))
            columns = [names.get(position, str(position + 1)) for position in range(len(first))]
            for term, position in wanted.items():
                if position >= len(first):
                    raise InputError(
                        f"{text.name}: line 1: ends before column {term}, with {len(first)} fields where meta.xml "
                        f"names at least {position + 1}; download the archive again"
                    )
            for batch in batches(text, columns, wanted, malformed):
                yield self._completed(batch, terms)

    def _completed(self, batch: pa.RecordBatch, terms: list[str]) -> pa.RecordBatch:
        columns = [batch["id"]]
        for term in terms:
            column = batch[term] if term in self.positions else pa.nulls(batch.num_rows, pa.string())
            columns.append(pc.fill_null(column, self.defaults[term]) if term in self.defaults else column)
        return pa.RecordBatch.from_arrays(columns, names=["id", *terms])


@dataclass(frozen=True)
class Archive:
    """An archive's core table and its extensions, in the order of meta.xml."""

    core: Table
    extensions: tuple[Table, ...]


def read_archive(path: Path) -> Archive:
    """Read an archive's description; its tables are read when they are asked for, and nothing is ever unpacked.

    Args:
        path: a zip file, or a folder that one was unpacked into.

    Raises:
        InputError: if it is no archive, or a member or a location in meta.xml points outside.
    """
    files = _members(path) if path.is_file() else _files(path)
    metas = [
        name for name in files if name.name == "meta.xml" and "__MACOSX" not in name.parts and len(name.parts) <= 2
    ]
    if len(metas) != 1:
        raise InputError(f"{path}: {len(metas)} files meta.xml, a Darwin Core Archive has one; download it again")
    meta = f"{path}: member {metas[0]}"
    try:
        with _open(path, metas[0]) as file:
            text = file.read(META_BYTES + 1)
        if len(text) > META_BYTES:
            raise InputError(
                f"{meta}: larger than {META_BYTES >> 20} MiB, so no description; download the archive again"
            )
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{meta}: not readable XML ({error}); download the archive again") from None
    core = root.find(f"{_NAMESPACE}core")
    if core is None:
        raise InputError(f"{meta}: no element core; download the archive again")
    extensions = root.findall(f"{_NAMESPACE}extension")
    tables = [_table(path, metas[0].parent, files, element, meta) for element in (core, *extensions)]
    return Archive(tables[0], tuple(tables[1:]))


def _members(path: Path) -> set[PurePosixPath]:
    """The files in a zip, none of which would land outside if it were unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{path}: not a readable zip file ({error}); download it again") from None
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise InputError(f"{path}: member {member.filename!r} would land outside the archive; do not use it")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise InputError(f"{path}: member {member.filename!r} is a symbolic link; do not use it")
        if member.flag_bits & 1:
            raise InputError(f"{path}: member {member.filename!r} is encrypted; give an archive without a password")
    _refuse_bomb(path, members)
    return {PurePosixPath(member.filename) for member in members if not member.is_dir()}


def _refuse_bomb(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """What the zip says of its members' sizes; they cannot be larger, since ``zipfile`` reads no further than that."""
    declared = sum(member.file_size for member in members)
    # members may overlap, so that the packed sizes sum up to more than the file has
    packed = min(sum(member.compress_size for member in members), path.stat().st_size)
    if declared > BOMB_BYTES and declared > BOMB_RATIO * packed:
        raise InputError(
            f"{path}: would unpack to {declared} bytes, {declared // max(packed, 1)} times its size, like a zip bomb; "
            "do not use it, or unpack it yourself and give the folder"
        )


def _files(path: Path) -> set[PurePosixPath]:
    if not path.is_dir():
        raise InputError(f"{path}: no such archive; give a zip file or a folder with a meta.xml")
    return {PurePosixPath(file.relative_to(path).as_posix()) for file in path.rglob("*") if file.is_file()}


def _open(path: Path, member: PurePosixPath) -> BinaryIO:
    if path.is_dir():
        return (path / member).open("rb")
    with zipfile.ZipFile(path) as archive:  # the member keeps the file open after the archive is closed
        return cast(BinaryIO, archive.open(str(member)))


def _table(
    path: Path, folder: PurePosixPath, files: set[PurePosixPath], element: ElementTree.Element, meta: str
) -> Table:
    locations = [
        (location.text or "").strip() for location in element.iterfind(f"{_NAMESPACE}files/{_NAMESPACE}location")
    ]
    row_type = _last(element.get("rowType", ""))
    if not locations:
        raise InputError(f"{meta}: table {row_type} has no location; download the archive again")
    core_id = element.find(f"{_NAMESPACE}id")
    core_id = element.find(f"{_NAMESPACE}coreid") if core_id is None else core_id
    positions: dict[str, int] = {}
    defaults: dict[str, str] = {}
    try:
        id_position = _position(core_id.get("index", "0")) if core_id is not None else 0
        for field in element.iterfind(f"{_NAMESPACE}field"):
            term = _last(field.get("term", ""))
            if (index := field.get("index")) is not None:
                positions.setdefault(term, _position(index))
            if (default := field.get("default")) is not None:
                defaults.setdefault(term, default)
        texts = tuple(_text(path, folder, files, element, location, meta) for location in locations)
    except (ValueError, LookupError) as error:
        raise InputError(f"{meta}: table {row_type}: {error}; download the archive again") from None
    return Table(row_type, texts, id_position, positions, defaults)


def _text(
    path: Path, folder: PurePosixPath, files: set[PurePosixPath], element: ElementTree.Element, location: str, meta: str
) -> Text:
    member = PurePosixPath(location)
    if member.is_absolute() or ".." in member.parts or "\\" in location:
        raise InputError(f"{meta}: location {location!r} is outside the archive; do not use it")
    if path.is_dir() and not (path / folder / member).resolve().is_relative_to(path.resolve()):
        raise InputError(f"{meta}: location {location!r} is a link out of the archive; do not use it")
    if folder / member not in files:
        raise InputError(f"{meta}: location {location!r} is not in the archive; download it again")
    delimiter = _unescaped(element.get("fieldsTerminatedBy", ","))
    quote = _unescaped(element.get("fieldsEnclosedBy", '"'))
    if len(delimiter) != 1 or len(quote) > 1:
        raise InputError(
            f"{meta}: {location}: fields separated by {delimiter!r} and enclosed by {quote!r} are not read"
        )
    if (end := _unescaped(element.get("linesTerminatedBy", "\n"))) not in ("\n", "\r\n", "\r"):
        raise InputError(f"{meta}: {location}: lines terminated by {end!r} are not read; convert the file")
    encoding = element.get("encoding", "UTF-8")
    if not codecs.lookup(encoding)._is_text_encoding:
        raise ValueError(f"encoding {encoding!r} is none of text")
    return Text(
        name=f"{path}: member {folder / member}",
        open=partial(_open, path, folder / member),
        delimiter=delimiter,
        quote=quote,
        encoding=encoding,
        short_lines=True,  # the format does not say so, and museums write them
        heading=int(element.get("ignoreHeaderLines") or 0),
    )


def _position(index: str) -> int:
    if not index.strip().isdecimal():
        raise ValueError(f"index {index!r} is no position of a field")
    return int(index)


def _last(term: str) -> str:
    """The name in a term's URI: ``http://purl.org/dc/terms/license`` is ``license``."""
    return term.rstrip("/").replace("#", "/").split("/")[-1]


def _unescaped(text: str) -> str:
    return _ESCAPES.get(text, text)
