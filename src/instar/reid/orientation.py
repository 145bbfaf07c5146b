"""From which side an animal was photographed: the pattern of a left flank says nothing of the right one."""

import re
from collections.abc import Iterable

import numpy as np

#: Each side's bit lies beside that of the side that is opposed to it.
SIDES = ("left", "right", "front", "back", "top", "bottom", "up", "down")
UNKNOWN = ("", "unknown", "none", "nan", "other")
_WORD = re.compile("|".join(SIDES))
_EVEN = 0b01010101


def read_sides(orientation: str | None) -> int | None:
    """The sides that a photograph shows as bits in the order of ``SIDES``; 0 where it is not told.

    ``topleft``, ``top-left`` and ``Top Left`` show two.

    Returns:
        None where the name says something else.
    """
    told = re.sub(r"[\s_/+-]+", "", orientation.lower()) if isinstance(orientation, str) else ""
    if told in UNKNOWN:
        return 0
    if _WORD.sub("", told):
        return None
    return sum({1 << SIDES.index(word) for word in _WORD.findall(told)})


def sides(orientations: Iterable[str | None]) -> np.ndarray:
    """``read_sides`` of each, uint8, shape (n,); a name that says something else counts as not told."""
    read: dict[str | None, int] = {}
    codes = []
    for name in orientations:
        key = name if isinstance(name, str) else None
        if key not in read:
            read[key] = read_sides(key) or 0
        codes.append(read[key])
    return np.array(codes, np.uint8)


def unread(orientations: Iterable[str | None]) -> dict[str, int]:
    """How many photographs have a name that is no side and not one for "unknown", by name."""
    found: dict[str, int] = {}
    for name in orientations:
        if isinstance(name, str) and read_sides(name) is None:
            found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))


def fits(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether two photographs may show the same skin: one is not told, they share a side, or no two are opposed.

    So ``topleft`` fits ``topright``, by the top, and ``left`` fits ``top``, but ``topleft`` does not fit ``right``.

    Args:
        first: uint8, see ``sides``.
        second: likewise, of a shape that broadcasts.

    Returns:
        bool.
    """
    opposed = ((second & _EVEN) << 1) | ((second >> 1) & _EVEN)
    return np.asarray((first == 0) | (second == 0) | ((first & second) != 0) | ((first & opposed) == 0))
