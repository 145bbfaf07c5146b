"""Photographs that lie on a disk: one's own, and those of a mirror."""

import hashlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

from instar.errors import InputError
from instar.images.network import NotFetchedError
from instar.images.spool import Row


class Disk:
    """Reads photographs below ``local``, and those with a host below ``mirror``."""

    def __init__(self, local: Path, mirror: Path | None, max_bytes: int) -> None:
        self._local = local
        self._mirror = mirror
        self._max_bytes = max_bytes

    def holds(self, row: Row) -> bool:
        """Whether a row of ``records`` is read here and not from the network."""
        return self._mirror is not None or "://" not in row["url"]

    def read(self, row: Row) -> bytes:
        """The bytes of a photograph.

        Raises:
            NotFetchedError: if there is none or it is too large.
            InputError: if one's own photograph has other bytes than recorded, or one may not be read.
        """
        own = "://" not in row["url"]
        root = self._local if own or self._mirror is None else self._mirror
        try:
            parts = urlsplit(row["url"])
            path = root / (row["url"] if own else f"{parts.netloc}{unquote(parts.path)}")
            # one's own may lie behind links: their checksums, not their place, say that they are the recorded ones
            inside = (
                not {"..", ""} & set(row["url"].split("/")) if own else path.resolve().is_relative_to(root.resolve())
            )
            outside = not inside or "\0" in str(path)
        except ValueError:  # a NUL, or brackets that hold no address
            outside = True
        if outside:
            raise NotFetchedError("refused: address")
        try:
            if not path.is_file():
                raise NotFetchedError("missing")
            if path.stat().st_size > self._max_bytes:
                raise NotFetchedError("too large")
            data = path.read_bytes()
        except PermissionError:
            raise InputError(f"{path}: may not be read by this user; change its permissions or its folders'") from None
        if own and hashlib.sha256(data).hexdigest() != row["sha256"]:
            raise InputError(f"{path}: changed since records.parquet was written; run the stage records again")
        return data
