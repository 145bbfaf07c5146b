"""The environment stands once, in the lock; what conda makes is that lock."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from project import ROOT

ENVS = ROOT / "envs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = [Requirement(line) for line in (ENVS / "requirements.lock").read_text().splitlines()]
DIRECT = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]]


def locked(name: str, python: str) -> Requirement | None:
    """The package as the lock has it for a Python on Linux."""
    environment = {"python_version": python, "python_full_version": f"{python}.1", "sys_platform": "linux"}
    for entry in LOCK:
        if entry.name == name and (entry.marker is None or entry.marker.evaluate(environment)):
            return entry
    return None


@pytest.mark.parametrize("python", ["3.11", "3.12"])
@pytest.mark.parametrize("text", DIRECT)
def test_the_lock_holds_every_direct_dependency(text: str, python: str) -> None:
    wanted = Requirement(text)
    entry = locked(wanted.name.lower(), python)
    assert entry is not None, f"{wanted.name} is not in the lock: make lock"
    assert wanted.specifier.contains(next(iter(entry.specifier)).version)


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_project_takes_both_pythons(python: str) -> None:
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(f"{python}.0")


def test_the_lock_names_no_index() -> None:
    text = (ENVS / "requirements.lock").read_text()
    assert not re.search(r"https?://|--(extra-)?index|--find-links", text)


def test_every_bound_has_its_reason() -> None:
    for line in (ROOT / "pyproject.toml").read_text().splitlines():
        if re.match(r'  "[\w-]+(\[\w+\])?[<>=]', line):
            assert "#" in line, f"no reason beside {line.strip()}"


def test_the_conda_environment_is_the_lock() -> None:
    conda = yaml.safe_load((ENVS / "conda.yaml").read_text())
    packages = dict(entry.split("=", 1) for entry in conda["dependencies"])
    assert set(packages) == {"python", "uv"}  # everything else comes from the lock
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(f"{packages['python']}.0")
    uv = locked("uv", packages["python"])
    assert uv is not None
    assert packages["uv"] == next(iter(uv.specifier)).version
    assert "uv pip sync" in (ENVS / "conda.post-deploy.sh").read_text()


def test_what_conda_installs_is_what_runs_here(tmp_path: Path) -> None:
    """The script that Snakemake runs in a fresh conda environment, run on an empty one without installing."""
    tools = str(Path(sys.executable).parent)
    subprocess.run([f"{tools}/uv", "venv", "--quiet", "--python", sys.executable, str(tmp_path / "env")], check=True)
    script = (ENVS / "conda.post-deploy.sh").read_text().splitlines()
    sync = next(line for line in script if line.startswith("uv pip sync"))
    done = subprocess.run(
        ["bash", "-c", f"{sync} --dry-run"],
        cwd=ROOT,
        env={**os.environ, "CONDA_PREFIX": str(tmp_path / "env"), "PATH": f"{tools}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    would = {line.split()[1] for line in done.stderr.splitlines() if line.startswith(" + ")}
    wanted = {f"{e.name}{e.specifier}" for e in LOCK if locked(e.name, python) is e}
    assert would == wanted
