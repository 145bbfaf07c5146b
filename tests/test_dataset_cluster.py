"""The stage dataset with its passes on a real SLURM, by Dask's own configuration: the same bytes as on threads."""

import os
import subprocess
from pathlib import Path

import pytest
from project import ROOT
from slurm_cluster import Cluster, missing
from test_dataset import crop, niger, run

from instar.errors import InputError

OUTPUTS = ("dataset.parquet", "held_out.csv", "dataset.json", "examples.csv")


@pytest.mark.xdist_group("slurm")
@pytest.mark.skipif(missing() is not None, reason=f"no SLURM here: {missing()}")
def test_a_cluster_gives_the_same_bytes(tmp_path: Path) -> None:
    crops = niger(60) + [{**crop(f"f{number}-0", "2"), "shard": "b"} for number in range(60)]
    run(tmp_path / "here", crops, validation_crops=5)
    configuration = {
        "DASK_INSTAR__CLUSTER": "slurm",
        "DASK_INSTAR__JOBS": "2",
        "DASK_JOBQUEUE__SLURM__CORES": "1",
        "DASK_JOBQUEUE__SLURM__MEMORY": "2GB",
        "DASK_JOBQUEUE__SLURM__QUEUE": "cpu",
        "DASK_JOBQUEUE__SLURM__WALLTIME": "00:10:00",
        "DASK_JOBQUEUE__SLURM__LOG_DIRECTORY": str(tmp_path / "logs"),
    }
    code = (
        "from pathlib import Path; from test_dataset import crop, niger, run\n"
        "crops = niger(60) + [{**crop(f'f{number}-0', '2'), 'shard': 'b'} for number in range(60)]\n"
        f"run(Path({str(tmp_path / 'there')!r}), crops, validation_crops=5)\n"
    )
    with Cluster(tmp_path / "slurm") as cluster:
        environment = {**os.environ, **cluster.environment, **configuration, "PYTHONPATH": f"{ROOT}/src:{ROOT}/tests"}
        subprocess.run(["python", "-c", code], env=environment, cwd=tmp_path, check=True, timeout=300)
        names = {job["JobName"] for job in cluster.jobs()}
    assert names == {"dask-worker"}
    for name in OUTPUTS:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def test_an_unknown_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dask

    with dask.config.set({"instar.cluster": "cloud"}), pytest.raises(InputError, match=r"instar\.cluster = 'cloud'"):
        run(tmp_path, niger(9))
