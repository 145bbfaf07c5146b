"""Zip files from elsewhere: unpacked below a folder, and nowhere else."""

import lzma
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from instar.errors import InputError
from instar.files import remove, replacing
from instar.progress import progress
from instar.sources import web

#: What an archive unpacks to, at most, as a multiple of its own size.
MOST_UNPACKED = 200

#: What zipfile raises of a broken archive: its own error, or that of the compression of a member.
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, EOFError)


def safe_path(name: str, place: str) -> PurePosixPath:
    """A path below a folder.

    Raises:
        InputError: if the name leads out of it.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0] or "\0" in name:
        raise InputError(f"{place}: file {name!r} leads out of the folder; do not use this archive")
    return path


def unpack(archive: Path, folder: Path, link: str) -> None:
    """Unpack all files, each under its name when it is whole.

    Args:
        archive: a zip file; removed where it is broken.
        folder: gets the files.
        link: where the archive is from, for messages.

    Raises:
        InputError: if it is broken, holds a link or a path that leads out, or would unpack to far more than it is.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [(one, safe_path(one.filename, link)) for one in opened.infolist() if not one.is_dir()]
            unpacked = sum(one.file_size for one, _ in members)
            if unpacked > MOST_UNPACKED * archive.stat().st_size:
                raise InputError(f"{link}: {unpacked} bytes from {archive.stat().st_size}; do not use this archive")
            for one, _ in members:
                if stat.S_ISLNK(one.external_attr >> 16):
                    raise InputError(f"{link}: file {one.filename!r} is a link; do not use this archive")
            for one, name in progress(members, f"files of {archive.stem}"):
                with replacing(folder / name) as temporary, opened.open(one) as packed, temporary.open("wb") as file:
                    shutil.copyfileobj(packed, file, web.CHUNK_BYTES)
    except _BROKEN as error:
        remove(archive)
        raise InputError(f"{link}: is no whole zip file ({error}); run the same command again") from None
