"""Every benchmark still runs: small, where it asserts equal results and its ratios mean nothing."""

import subprocess
import sys

import pytest
from project import ROOT

NAMES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))
#: Draws large trays and runs for minutes even when small: by hand.
LONG = ("tray",)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LONG])
def test_a_small_run(name: str) -> None:
    command = [sys.executable, f"benchmarks/{name}.py", "--small"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout


def test_the_list_names_every_benchmark() -> None:
    listed = (ROOT / "benchmarks/README.md").read_text()
    assert [name for name in NAMES if f"`{name}.py`" not in listed] == []
