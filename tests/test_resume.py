"""A training that is stopped goes on as if it had not been: killed by SIGTERM, by kill -9, at any batch."""

import json
import os
import signal
import subprocess
import sys
import tempfile
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
    with signal_at(read, signal.SIGTERM):
        yield


@contextmanager
def signal_at(read: int, number: signal.Signals) -> Iterator[None]:
    reads = 0
    whole = CropReader.read

    def counting(self: CropReader, index: int) -> Any:
        nonlocal reads
        reads += 1
        if reads == read:
            os.kill(os.getpid(), number)
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


def unfinished(out: Path) -> Path:
    """The folder of the only training that was stopped."""
    (checkpoint,) = (out / "work").rglob(fitting.CHECKPOINT)
    return checkpoint.parent


def test_a_checkpoint_is_never_written_amid_an_accumulation(folder: Path) -> None:
    with sigterm_at(129), pytest.raises(SystemExit):
        train(folder, "accumulated", **RICH)
    state = torch.load(unfinished(folder / "accumulated") / fitting.CHECKPOINT, weights_only=True)
    batches = state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    assert batches["processed"] == RICH["accumulate"]
    assert "gradients" not in state


#: An epoch without a step that is not its last.
ONE_BATCH: dict[str, Any] = {
    "epochs": 4,
    "batch": 104,
    "ema": 0.9,
    "early_stop": 3,
    "frozen_epochs": 1,
    "keep": "best_top1",
}


@pytest.mark.parametrize("read", [1, 110, 129, 250])
def test_a_batch_an_epoch(folder: Path, read: int) -> None:
    name = f"one-batch-{read}"
    with sigterm_at(read), pytest.raises(SystemExit):
        train(folder, name, **ONE_BATCH)
    assert unfinished(folder / name)
    assert_same(train(folder, name, **ONE_BATCH), train(folder, "one-batch", **ONE_BATCH))


@pytest.mark.parametrize("settings", [SHORT, RICH, ONE_BATCH], ids=["short", "rich", "one batch"])
def test_a_run_that_ends_at_any_moment_goes_on_from_the_last_epochs_end(
    folder: Path, settings: dict[str, Any], capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    with killed_at(2 * 128 + 50), pytest.raises(KeyboardInterrupt):
        train(folder, f"ended-{name}", **settings)
    capfd.readouterr()
    again = train(folder, f"ended-{name}", **settings)
    lines = [line for line in capfd.readouterr().err.splitlines() if "epoch" in line]
    assert lines[0].startswith("classifier: epoch 3/")
    assert_same(again, train(folder, f"not-ended-{name}", **settings))


@contextmanager
def killed_at(read: int) -> Iterator[None]:
    """As after kill -9, nothing is written from there on."""

    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, end)
    try:
        with signal_at(read, signal.SIGUSR1):
            yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_training_that_is_done_does_not_stop(folder: Path) -> None:
    with sigterm_at(2 * 128 + 110):  # in the last validation
        out = train(folder, "done", **SHORT)
    assert_same(out, train(folder, "not-signalled", **SHORT))


def test_the_curves_so_far_lie_beside_the_checkpoint(folder: Path) -> None:
    with sigterm_at(2 * 128 + 50), pytest.raises(SystemExit):
        train(folder, "watched", **SHORT)
    found = (unfinished(folder / "watched") / "curves/train/loss.tsv").read_text()
    whole = (train(folder, "watched", **SHORT) / "curves/train/loss.tsv").read_text()
    assert found.count("\n") == 3
    assert whole.startswith(found)


def test_a_checkpoint_needs_no_other_file_system(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with sigterm_at(20), pytest.raises(SystemExit):
        train(folder, "beside", **SHORT)
    assert sorted(path.name for path in unfinished(folder / "beside").iterdir()) == [fitting.CHECKPOINT]


@pytest.mark.parametrize("left", [0, 1000, -1000], ids=["empty", "beginning", "without its end"])
def test_a_damaged_checkpoint_is_none(folder: Path, left: int, capfd: pytest.CaptureFixture[str]) -> None:
    name = f"damaged-{left}"
    with sigterm_at(200), pytest.raises(SystemExit):
        train(folder, name, **SHORT)
    checkpoint = unfinished(folder / name) / fitting.CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:left])
    part = checkpoint.with_name(f".{checkpoint.name}.part-1")
    part.touch()
    capfd.readouterr()
    with sigterm_at(1), pytest.raises(SystemExit):
        train(folder, name, **SHORT)
    assert not part.exists()
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("classifier: ")]
    assert told[0].startswith(f"classifier: {checkpoint} is damaged (")
    assert told[0].endswith("), so training begins anew")
    assert len(told) == 2
    assert_same(train(folder, name, **SHORT), train(folder, "not-damaged", **SHORT))


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
