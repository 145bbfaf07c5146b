"""Progress in a log: whole lines that say how far, how fast and how long."""

import logging
import time
import warnings

import pytest

from instar import progress as module
from instar.progress import progress, quiet_lightning


def test_lines_in_a_log(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINE_INTERVAL_S", 0.01)
    for _ in progress(range(3), "photographs", 3):
        time.sleep(0.02)
    lines = capfd.readouterr().err.splitlines()
    assert "photographs: 3/3 in" in lines[-1]
    assert all("\r" not in line and "left" in line for line in lines)
    assert len(lines) >= 3


def test_a_note_stands_at_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    done: list[int] = []

    def note() -> str:
        return f"{len(done)} refused"

    for n in progress(range(3), "photographs", 3, note=note):
        done.extend([n] * (n > 0))
    assert capfd.readouterr().err.splitlines()[-1].endswith("left, 2 refused")


def test_nothing_to_do(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(progress([], "photographs", 0)) == []


def test_lightning_is_quiet_for_a_while() -> None:
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    with pytest.raises(KeyError), quiet_lightning():
        assert not logger.isEnabledFor(logging.WARNING) and logger.isEnabledFor(logging.ERROR)
        warnings.warn_explicit("tip", UserWarning, "x", 1, module="lightning.pytorch.trainer")
        raise KeyError
    assert logger.level == before
    with pytest.raises(UserWarning):
        warnings.warn_explicit("tip", UserWarning, "x", 1, module="lightning.pytorch.trainer")
