"""A training that is stopped goes on as if it had not been: killed by SIGTERM, by kill -9, at any batch."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from crop_shards import SETTINGS, train, write_crops
from safetensors.torch import load_file

from instar.classifier import fit as fitting
from instar.classifier.data import CropReader
from instar.classifier.model import WEIGHTS
from instar.errors import InputError

#: 104 training crops in 13 batches an epoch.
SHORT: dict[str, Any] = {"epochs": 3, "batch": 8, "place": "late", "balance": "sampler", "loss": "reward"}
#: Everything that has a state of its own or draws random numbers.
RICH: dict[str, Any] = {
    **SHORT,
    "ema": 0.9,
    "accumulate": 3,
    "frozen_epochs": 1,
    "colour": 0.3,
    "erasing": 0.3,
    "mixup": 0.2,
    "cutmix": 0.2,
    "rotation_deg": 10.0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("study")
    write_crops(path)
    return path


@contextmanager
def sigterm_at(read: int) -> Iterator[None]:
    """SIGTERM to this process when so many crops have been read."""
    reads = 0
    whole = CropReader.read

    def counting(self: CropReader, index: int) -> Any:
        nonlocal reads
        reads += 1
        if reads == read:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, index)

    CropReader.read = counting  # type: ignore[method-assign]
    try:
        yield
    finally:
        CropReader.read = whole  # type: ignore[method-assign]


def results(out: Path) -> tuple[dict[str, torch.Tensor], Any, dict[str, str]]:
    curves = {path.name: path.read_text() for path in sorted((out / "curves").rglob("*.tsv"))}
    return load_file(out / "classifier" / WEIGHTS), json.loads((out / "classifier.json").read_text()), curves


def assert_same(one: Path, other: Path) -> None:
    weights, figures, curves = results(one)
    weights_again, figures_again, curves_again = results(other)
    assert all(torch.equal(weights[name], weights_again[name]) for name in weights)
    assert figures == figures_again
    assert curves == curves_again


@pytest.fixture(scope="module", params=["short", "rich"])
def uninterrupted(request: pytest.FixtureRequest, folder: Path) -> tuple[str, dict[str, Any], Path]:
    settings = {"short": SHORT, "rich": RICH}[request.param]
    return request.param, settings, train(folder, f"whole-{request.param}", **settings)


# of an epoch's 128 reads the first 104 train and the last 24 validate
@pytest.mark.parametrize("read", [1, 20, 97, 104, 110, 128, 129, 150, 200, 300])
def test_sigterm_at_any_time(folder: Path, uninterrupted: tuple[str, dict[str, Any], Path], read: int) -> None:
    name, settings, whole = uninterrupted
    stopped = f"stopped-{name}-{read}"
    with sigterm_at(read), pytest.raises(SystemExit) as ended:
        train(folder, stopped, **settings)
    assert ended.value.code == 143
    assert not (folder / stopped / "classifier").exists()
    assert_same(train(folder, stopped, **settings), whole)
    assert not list((folder / stopped / "work" / "unfinished").glob("*/*"))


def test_a_checkpoint_is_gone_on_with(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with sigterm_at(200), pytest.raises(SystemExit):
        train(folder, "on", **SHORT)
    assert "stopped by SIGTERM; the next run goes on" in capfd.readouterr().err
    train(folder, "on", **SHORT)
    lines = [line for line in capfd.readouterr().err.splitlines() if "epoch" in line]
    assert [line.split(",")[0] for line in lines] == ["classifier: epoch 2/3", "classifier: epoch 3/3"]


def test_a_damaged_crop_does_not_cost_the_checkpoint(folder: Path) -> None:
    with sigterm_at(200), pytest.raises(SystemExit):
        train(folder, "kept", **SHORT)
    (checkpoint,) = (folder / "kept" / "work").rglob(fitting.CHECKPOINT)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(InputError, match="no image"):
        patch.setattr(CropReader, "read", damaged)
        train(folder, "kept", **SHORT)
    assert checkpoint.is_file()


def damaged(*_: Any) -> Any:
    raise InputError("crop 1 is no image")


def test_another_parameter_starts_anew(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with sigterm_at(200), pytest.raises(SystemExit):
        train(folder, "anew", **SHORT)
    train(folder, "anew", **{**SHORT, "learning_rate": 0.001})
    assert "epoch 1/3" in capfd.readouterr().err


def test_kill_9_costs_what_is_behind_the_last_checkpoint(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = folder / "killed"
    settings = {**SETTINGS, **SHORT}
    script = (
        "import sys, json; from pathlib import Path; from instar.classifier.stage import classifier\n"
        f"f = Path({str(folder)!r}); o = Path({str(out)!r})\n"
        "from instar.classifier import fit; fit.CHECKPOINT_INTERVAL_S = 0.0\n"
        "classifier(f/'crops', f/'dataset.parquet', o/'classifier', o/'classifier.json', o/'curves', o/'work', "
        f"**{settings!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "epoch 1/3" in line:
            break
    time.sleep(0.05)
    process.kill()
    process.wait()
    process.stderr.close()
    assert not (out / "classifier").exists()
    assert list((out / "work" / "unfinished").glob(f"*/{fitting.CHECKPOINT}"))
    assert_same(train(folder, "killed", **SHORT), train(folder, "not-killed", **SHORT))
