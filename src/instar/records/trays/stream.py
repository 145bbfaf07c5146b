"""A JSON file of any size, one element at a time: a file of 2 GB takes no more memory than its largest element."""

import json
from collections.abc import Iterator
from json import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import Any, TextIO

from instar.errors import InputError

#: Characters read at a time.
CHUNK = 1 << 20
#: Characters of the longest element that is waited for; a file that is broken early is not read to its end.
LONGEST = 1 << 26

_SPACE = " \t\n\r"


def elements(path: Path) -> Iterator[tuple[str, Any]]:
    """The elements of every list that the mapping in a JSON file holds, and its other values, each with its key.

    Raises:
        InputError: if the file is missing, no JSON or no mapping; what came before it was given.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from _Scanner(file).mapping()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; put it there") from None
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
        raise InputError(f"{path}: not a COCO JSON ({error}); export the annotations again") from None


class _Scanner:
    """Values by Python's own decoder, from text of which only the part around the next value is held."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._text, self._at, self._before = file, "", 0, 0
        self._decoder = JSONDecoder()

    def mapping(self) -> Iterator[tuple[str, Any]]:
        self._expect("{")
        if self._next() == "}":
            self._at += 1
        else:
            yield from self._pairs()
        if self._next():
            raise ValueError(f"more after its end, at character {self._before + self._at}")

    def _pairs(self) -> Iterator[tuple[str, Any]]:
        while True:
            key = self._value()
            if not isinstance(key, str):
                raise ValueError(f"{json.dumps(key)[:40]} is no key, before character {self._before + self._at}")
            self._expect(":")
            if self._next() == "[":
                for value in self._list():
                    yield key, value
            else:
                yield key, self._value()
            if self._expect(",}") == "}":
                return

    def _list(self) -> Iterator[Any]:
        self._expect("[")
        if self._next() == "]":
            self._at += 1
            return
        while True:
            yield self._value()
            if self._expect(",]") == "]":
                return

    def _value(self) -> Any:
        """The next value; a ValueError where there is none."""
        self._next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                # a number may go on in the next chunk, behind "1." or "1e-", too
                if end + 2 < len(self._text) or not self._more():
                    self._at = end
                    return value
            except JSONDecodeError as error:
                if len(self._text) - self._at > LONGEST or not self._more():
                    raise ValueError(f"{error.msg}, at character {self._before + error.pos}") from None

    def _expect(self, characters: str) -> str:
        found = self._next()
        if not found or found not in characters:
            wanted = " or ".join(characters)
            raise ValueError(f"{found or 'its end'} where {wanted} belongs, at character {self._before + self._at}")
        self._at += 1
        return found

    def _next(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _more(self) -> bool:
        chunk = self._file.read(CHUNK)
        if chunk:
            self._before += self._at
            self._text, self._at = self._text[self._at :] + chunk, 0
        return bool(chunk)
