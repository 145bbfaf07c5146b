"""Thousands of shards: their jobs run, and a name that is none is refused."""

import json

import pytest
from project import WHOLE, Project

from instar.tables import IMAGES, write_table

COUNT = 2000


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Nothing but the shards of ``images``, each of them empty."""
    project = Project(tmp_path_factory.mktemp("many") / "project", [*WHOLE, f"shards={COUNT}"])
    folder = project.root / "data/demo/images"
    write_table(folder / "s0000.parquet", [], IMAGES)
    (folder / "s0000.tar").touch()
    for n in range(1, COUNT):
        (folder / f"s{n:04d}.parquet").hardlink_to(folder / "s0000.parquet")
        (folder / f"s{n:04d}.tar").touch()
    return project


@pytest.mark.xdist_group("many")
def test_a_job_that_reads_all_shards_runs(project: Project) -> None:
    """And names their folder: a command line holds 2 MB at most, which the files of 10,000 shards would exceed."""
    folder = "data/demo/images"
    out = "data/demo/metrics/images.json"
    printed = project.run("snakemake", "-p", "--allowed-rules", "tally", "--", out)
    assert f"instar job --inputs {folder} src/instar/tally.py --outputs {out} " in printed
    assert json.loads((project.root / out).read_text())["photographs"] == 0


@pytest.mark.xdist_group("many")
def test_a_name_that_is_no_shard_is_refused(project: Project) -> None:
    printed = project.run("snakemake", "-n", "--", "data/demo/images/s2000.parquet", check=False)
    assert "s2000: no shard of params.yaml" in printed
