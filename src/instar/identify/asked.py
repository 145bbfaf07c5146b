"""The photographs that `instar identify` is asked about, and what is said of those that can't be read."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from instar.identify.inputs import paths_of
from instar.progress import progress

if TYPE_CHECKING:
    from instar.identify.output import Output

T = TypeVar("T")

#: Progress is shown above so many photographs.
FEW = 10


class Asked:
    """Photographs, and how many of them could not be read.

    Args:
        words: files and folders of the command line; those that mean no photograph are told.
    """

    def __init__(self, words: Iterable[Path]) -> None:
        self.paths, problems = paths_of(words)
        self._bad = len(problems)
        for problem in problems:
            complain(problem)

    def shown(self, found: Iterable[T]) -> Iterable[T]:
        """What was found on the photographs, with progress where they are many."""
        return progress(found, "photographs", len(self.paths)) if len(self.paths) > FEW else found

    def answer(self, rows: Iterable[dict[str, Any]], output: "Output") -> int:
        """Write the rows of the photographs, and tell what could not be read; the exit status."""
        for row in rows:
            if row["problem"]:
                self._bad += 1
                complain(f"{row['photograph']}: {row['problem']}")
            output.add(row)
        output.close()
        if self._bad:
            complain(f"{self._bad} of the photographs and folders named could not be read")
        return 1 if self._bad else 0


def complain(text: str) -> None:
    """A line on standard error."""
    print(f"instar identify: {text}", file=sys.stderr, flush=True)
