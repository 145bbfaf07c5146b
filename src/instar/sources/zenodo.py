"""`instar source zenodo`: the files of a record of Zenodo, checked and unpacked.

https://developers.zenodo.org/#records
"""

import json
import zipfile
from pathlib import Path
from typing import Any

from requests import Session

from instar.errors import InputError
from instar.files import md5_of, remove, write_json
from instar.progress import progress
from instar.sources import archives, parts, web
from instar.store import STATE

URL = "https://zenodo.org/api"
#: MassID45: A multi-modal dataset for insect biodiversity.
RECORD = 15479861
#: Files that are not whole yet.
WORK = STATE / "zenodo"
#: Beside the files; tells which ones are whole, and how the record is cited.
ABOUT = "zenodo-{}.json"


def zenodo(
    source: Path,
    *,
    record: int = RECORD,
    files: list[str] | None = None,
    unzip: bool = True,
    url: str = URL,
) -> int:
    """Fetch the files of a record of Zenodo and unpack its zip files.

    Every file is checked against Zenodo's md5. Stopped and started again, it goes on where it was; what is whole is not
    fetched again while Zenodo's checksum stays the same. ``zenodo-<record>.json`` tells DOI, licence, checksums and
    what was unpacked; whether all that was in there is still in the folder is not looked at.

    Args:
        source: the study's source folder.
        record: number of the record; MassID45's by default.
        files: names of those that are wanted; nothing for all.
        unzip: unpack zip files into the folder and keep only what was in them.
        url: of the API.

    Raises:
        InputError: if Zenodo refuses, does not have a file, or gives none with the right checksum in six tries; if a
            zip file is damaged or holds paths outside of the folder; if ``zenodo-<record>.json`` cannot be read.
    """
    client = web.session()
    told = web.ask(client, f"{url}/records/{record}", read=web.as_json)
    entries = _entries(told, f"{url}/records/{record}", files)
    about = source / ABOUT.format(record)
    finished, unpacked = _finished(about)
    for name, (link, size, md5) in progress(entries.items(), "files"):
        path, part = source / name, _part(record, name)
        unzips = unzip and path.suffix.lower() == ".zip"
        if finished.get(name) == md5 and (name in unpacked or (path.is_file() and not unzips)):
            continue
        is_here = path.is_file() and path.stat().st_size == size and md5_of(path) == md5
        if not is_here:
            _fetch(client, link, size, md5, part)
            path.parent.mkdir(parents=True, exist_ok=True)
        whole = path if is_here else part
        unpacked.discard(name)
        # tables of spreadsheets and arrays of NumPy are zip files, too
        if unzips and zipfile.is_zipfile(whole):
            archives.unpack(whole, path.parent, link)
            unpacked.add(name)
        elif not is_here:
            parts.move(part, path)
        finished[name] = md5
        write_json(about, {**_citation(told), "files": dict(sorted(finished.items())), "unpacked": sorted(unpacked)})
        if name in unpacked:
            remove(whole)  # only now, so that a kill costs no second download
    return 0


def _finished(about: Path) -> tuple[dict[str, str], set[str]]:
    """The md5 of the files that are whole, by name, and which of them were unpacked."""
    try:
        told = json.loads(about.read_text(encoding="utf-8"))
        return dict(told["files"]), set(told.get("unpacked", ()))
    except FileNotFoundError:
        return {}, set()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{about}: is damaged ({error}); remove it and run the same command again, which fetches only archives anew"
        ) from None


def _entries(told: dict[str, Any], place: str, wanted: list[str] | None) -> dict[str, tuple[str, int, str]]:
    """Address, bytes and md5 of each wanted file, by name."""
    try:
        entries = {}
        for one in told["files"]:
            kind, _, md5 = str(one["checksum"]).partition(":")
            if kind != "md5" or len(md5) != 32:
                raise ValueError(f"checksum {one['checksum']!r} is no md5")
            entries[archives.safe_path(str(one["key"]), place).as_posix()] = (
                str(one["links"]["self"]),
                int(one["size"]),
                md5,
            )
    except (KeyError, TypeError, ValueError) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{place}: not a record with files ({problem}); check its number") from None
    if missing := sorted(set(wanted or ()) - entries.keys()):
        raise InputError(f"{place}: has no file {missing[0]}; it has {', '.join(sorted(entries))}")
    return {name: entries[name] for name in sorted(entries) if wanted is None or name in wanted}


def _citation(told: dict[str, Any]) -> dict[str, Any]:
    about = told.get("metadata") or {}
    licence = about.get("license")
    names = {"record": told.get("id"), "doi": told.get("doi"), "title": about.get("title")}
    return {**names, "licence": licence.get("id") if isinstance(licence, dict) else licence}


def _part(record: int, name: str) -> Path:
    return WORK / str(record) / f"{name.replace('/', '-')}.part"


def _fetch(client: Session, link: str, size: int, md5: str, part: Path) -> None:
    """Make the part whole."""

    def check(whole: Path) -> None:
        if (found := md5_of(whole)) != md5:
            raise ValueError(f"md5 {found} instead of {md5}")

    have = part.stat().st_size if part.is_file() else 0
    if have > size or (have == size and md5_of(part) != md5):
        part.unlink()  # of another version of the file
    if not part.is_file() or part.stat().st_size < size or not size:
        parts.fetch(client, link, part, size, check)
