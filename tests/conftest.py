"""Shared by all tests: no library may look at the network or at the user's own settings."""

import os
import sys
import warnings

import pytest

os.environ["YOLO_OFFLINE"] = "true"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["DVC_NO_ANALYTICS"] = "1"
# several workers share the cores: threads of torch that wait for each other would spin on them
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"
# the tests start some hundreds of interpreters: without bytecode each would compile torch anew, half of its start
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
for _name in [name for name in os.environ if name.startswith(("INSTAR_", "SNAKEMAKE_"))]:
    del os.environ[_name]


@pytest.hookimpl(tryfirst=True)
def pytest_warning_recorded(warning_message: warnings.WarningMessage) -> None:
    """Hand a library's own class of warning on as a plain one.

    To read it, the process that gathers the workers' results would import the library, whose own warnings end it.
    """
    if warning_message.category.__module__ != "builtins":
        text = f"{warning_message.category.__name__}: {warning_message.message}"
        warning_message.message, warning_message.category = UserWarning(text), UserWarning


#: Of the files that take longest: collected first, so that no worker is left alone with one of them at the end.
LONG = ("workflow", "slurm", "benchmarks", "trays_study", "rfdetr", "training", "export", "study", "ablations")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in LONG)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tests of one group share a fixture or the machine's one SLURM; on several workers they disturb each other."""
    grouped = session.config.getoption("loadgroup", default=False)
    apart = [item for item in session.items if grouped and item.get_closest_marker("xdist_group")]
    if any("@" not in item.nodeid for item in apart):
        raise pytest.UsageError("xdist_group has no effect: these versions of pytest and pytest-xdist do not suit")
