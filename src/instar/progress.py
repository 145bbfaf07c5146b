"""Progress with rate and remaining time: a bar on a terminal, a line now and then in a log, and no talk beside it."""

import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

#: Between two lines where standard error is no terminal, seconds.
LINE_INTERVAL_S = 5.0


class _Lines:
    """A stream for tqdm that turns its overwritten bar into whole lines."""

    def write(self, text: str) -> None:
        line = text.replace("\r", "").strip()
        if line:
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def bar(what: str, total: int | None = None, items: Iterable[Any] | None = None) -> "tqdm[Any]":
    """A bar on standard error that says how many ``what`` are done, how fast, and how long the rest takes."""
    terminal = sys.stderr.isatty()
    layout = "{desc}: {n_fmt}/{total_fmt} in {elapsed}, {rate_fmt}, {remaining} left{postfix}"
    return tqdm(
        items,
        desc=what,
        total=total,
        unit="",
        mininterval=0.2 if terminal else LINE_INTERVAL_S,
        maxinterval=LINE_INTERVAL_S,
        file=None if terminal else _Lines(),
        bar_format=None if terminal else layout,
    )


def progress(
    items: Iterable[T], what: str, total: int | None = None, note: Callable[[], str] | None = None
) -> Iterator[T]:
    """Yield the items while standard error says how far it is; see ``bar``.

    What ``note`` returns stands at the end of the line, such as "3 refused".
    """
    with bar(what, total, items) as shown:
        for item in shown:
            yield item
            if note:
                shown.set_postfix_str(note(), refresh=False)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's tips and its talk about devices and workers out of the log."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning|torch")
            yield
    finally:
        logger.setLevel(level)
