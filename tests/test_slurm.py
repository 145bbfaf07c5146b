"""The whole DAG through a real SLURM: who runs where, with what."""

from pathlib import Path

import pytest
from project import TINY, Project
from slurm_cluster import Cluster, missing

GPU = {"detector", "detections", "classifier", "evaluation"}
CPU = {"images", "crops", "dataset", "detection_metrics"}


@pytest.mark.skipif(missing() is not None, reason=f"no SLURM here: {missing()}")
def test_rules_go_to_their_partitions(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", [*TINY, "shards=[s0]"])
    with Cluster(tmp_path / "slurm") as cluster:
        project.extra = cluster.environment
        project.run("snakemake", "--profile", "slurm", "all")
        jobs = {job["Comment"].split("_wildcards_")[0].removeprefix("rule_"): job for job in cluster.jobs()}
    # records, tally and report stay on the machine that runs Snakemake
    assert set(jobs) == GPU | CPU
    assert {job["JobState"] for job in jobs.values()} == {"COMPLETED"}
    assert {name for name, job in jobs.items() if job["Partition"] == "gpu"} == GPU
    assert {name for name, job in jobs.items() if job["Partition"] == "cpu"} == CPU
    assert {name for name, job in jobs.items() if "gres:gpu:1" in job.get("TresPerJob", "")} == GPU
    assert {jobs[name]["TimeLimit"] for name in ("detector", "images")} == {"1-00:00:00", "01:00:00"}
    assert jobs["detector"]["NumCPUs"] == "8"
    assert jobs["detector"]["MinMemoryNode"] == "32000M"
    assert project.due() == []
    assert (project.root / "data/demo/report.html").is_file()
