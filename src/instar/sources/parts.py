"""Files fetched in parts: what an earlier run got is kept, and a file takes its name when it is whole."""

import errno
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from requests import Response, Session

from instar.files import naming_full_disk, replacing
from instar.progress import progress
from instar.sources import web


def fetch(
    client: Session,
    link: str,
    part: Path,
    size: int | None,
    check: Callable[[Path], None] | None = None,
    *,
    denied: str = web.DENIED,
) -> None:
    """Get a file, going on where ``part`` ends; anew where the service knows no ranges.

    Args:
        client: asks.
        link: of the file.
        part: gets the bytes.
        size: of the whole file, bytes; None where it is not known.
        check: of the whole file; a ValueError says that it is broken, so that it is got anew.
        denied: the remedy where the service answers 401 or 403.

    Raises:
        InputError: if the service refuses, or gives no whole file in six tries.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    read = partial(_append, part=part, size=size, check=check)
    web.ask(client, link, read=read, headers=partial(_range, part), denied=denied, stream=True)


def move(part: Path, path: Path) -> None:
    """Give a whole file its name."""
    try:
        part.replace(path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # the folder may lie on another disk than the workspace
        with replacing(path) as temporary:
            shutil.copyfile(part, temporary)
        part.unlink()


def _range(part: Path) -> dict[str, str]:
    have = part.stat().st_size if part.is_file() else 0
    return {"Range": f"bytes={have}-"} if have else {}


def _append(response: Response, part: Path, size: int | None, check: Callable[[Path], None] | None) -> bool:
    """Write an answer behind what is there, or anew where the service begins anew."""
    with naming_full_disk(part), part.open("ab" if response.status_code == 206 else "wb") as file:
        for piece in progress(web.chunks(response), "MiB"):
            file.write(piece)
    have = part.stat().st_size
    if size is not None and have != size:
        if have > size:
            part.unlink()
        raise ValueError(f"{have} bytes instead of {size}")
    if check:
        try:
            check(part)
        except ValueError:
            part.unlink()
            raise
    return True
