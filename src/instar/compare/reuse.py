"""A comparison's part is made once, as long as all that it depends on is as it was."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import instar
from instar.errors import InputError
from instar.files import remove, replacing, sha256_of


def key_of(told: Any, inputs: list[Path], libraries: list[str]) -> str:
    """sha256 of parameters, of the inputs' bytes, of instar's own source and of the versions of libraries.

    Raises:
        InputError: if an input is missing.
    """
    for path in inputs:
        if not path.exists():
            raise InputError(f"{path}: no such file; run 'snakemake all' first")
    code = sha256_of_sources(Path(instar.__file__).parent)
    text = json.dumps([told, [sha256_of(path) for path in inputs], code, [version(name) for name in libraries]])
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of_sources(package: Path) -> list[str]:
    """Of every module below a package, in the order of their names."""
    return [sha256_of(path) for path in sorted(package.glob("**/*.py"))]


@contextmanager
def once(out: Path, key: str) -> Iterator[bool]:
    """Whether the folder ``out`` has to be made; that it was made of ``key`` is noted when the block ends well."""
    done = out / "key"
    due = not (done.is_file() and done.read_text(encoding="utf-8") == key)
    if due:
        remove(done)
    yield due
    if due:
        with replacing(done) as temporary:
            temporary.write_text(key, encoding="utf-8")
