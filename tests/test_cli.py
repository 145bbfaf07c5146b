"""The command line answers fast and tells what a command reads and writes."""

import subprocess
import sys

import pytest
from project import ROOT

from instar.cli import COMMANDS
from instar.compare.command import compare


def instar(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "instar", *words], cwd=ROOT, capture_output=True, text=True)


def test_help_lists_every_command() -> None:
    told = instar("--help").stdout
    assert all(f"  {name} " in told for name in COMMANDS)


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['instar', '--help']; from instar.cli import main; main(); print(sorted(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True).stdout
    assert "'sys'" in loaded
    assert not any(f"'{name}'" in loaded for name in ("torch", "ultralytics", "pandas", "numpy", "snakemake"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    script = (
        "import sys; from instar import cli; sys.argv = ['instar', *sys.argv[1:]]\n"
        "try:\n    cli.main()\nfinally:\n    print('HEAVY', [m for m in ('torch', 'ultralytics') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, name, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert f"usage: instar {name}" in done.stdout, done.stderr
    assert "HEAVY []" in done.stdout
    assert len(done.stdout) > 400


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("detectors", "It costs a training of the stage detector for each preset"),
        ("splits", "It costs a training of the stage classifier for each way"),
        ("zooms", "Its cost grows with the square of the zoom"),
        ("individuals", "It costs a training of the stage classifier for each preset"),
    ],
)
def test_every_comparison_says_what_it_writes_and_costs(
    kind: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit):
        compare([kind, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert told in shown and " Writes " in shown and " train" in shown.lower()


def test_what_world_draws_is_said() -> None:
    shown = " ".join(instar("world", "--help").stdout.split())
    assert "Ants alone" in shown and "instar study trays_drawn, or individuals_drawn" in shown


def test_an_unknown_command_is_one_line() -> None:
    done = instar("recrods")
    assert (done.returncode, done.stderr) == (2, "instar: no command 'recrods'; 'instar --help' lists them\n")


def test_a_wrong_option_is_named() -> None:
    done = instar("prune", "--days", "soon")
    assert done.returncode == 2
    assert "days" in done.stderr
    assert "Traceback" not in done.stderr
