"""The whole DAG through a real SLURM: who runs where, with what."""

import re
from pathlib import Path

import pytest
import yaml
from project import TINY, WHOLE, Project
from slurm_cluster import Cluster, missing

pytestmark = pytest.mark.xdist_group("slurm")  # one SLURM at a time: its place is the machine's

GPU = {"detector", "detections", "classifier", "evaluation"}
CPU = {"images", "crops", "dataset", "detection_metrics"}


def grouped(project: Project, shards: int) -> None:
    """Take the # from the profile's lines on groups, and give each job so many shards."""
    path = project.root / "workflow/profiles/slurm/config.yaml"
    text = re.sub(r"(?m)^#(?=\S)", "", path.read_text()).replace(": 20", f": {shards}")
    keys = set(yaml.safe_load(text))
    assert keys >= {"groups", "group-components", "resources", "set-resource-scopes"}
    path.write_text(text)


def test_grouped_shards_are_planned(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", [*WHOLE, "shards=[s0,s1,s2]"])
    grouped(project, 2)
    printed = project.run("snakemake", "--profile", "slurm", "-n", "stage_crops")
    assert re.search(r"crops +3\n", printed)


@pytest.mark.skipif(missing() is not None, reason=f"no SLURM here: {missing()}")
def test_grouped_shards_share_a_job(tmp_path: Path) -> None:
    """Three shards, two in each job: two jobs, the GPU's with one GPU, and every shard there in the end."""
    project = Project(tmp_path / "project", [*WHOLE, "shards=[s0,s1,s2]"])
    grouped(project, 2)
    with Cluster(tmp_path / "slurm") as cluster:
        project.extra = cluster.environment
        project.run("snakemake", "--profile", "slurm", "stage_crops")
        jobs = cluster.jobs()
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    rules = [job["Comment"].split("_")[1] for job in jobs]  # a group's comment is that of a rule in some versions
    assert {name: rules.count(name) for name in rules} == {"detector": 1, "images": 2, "detections": 2, "crops": 2}
    on_gpus = [job for job, rule in zip(jobs, rules, strict=True) if rule == "detections"]
    assert {(job["Partition"], job["TresPerJob"]) for job in on_gpus} == {("gpu", "gres:gpu:1")}
    assert project.due("stage_crops") == []
    assert len(list((project.root / "data/demo/crops").iterdir())) == 6


@pytest.mark.skipif(missing() is not None, reason=f"no SLURM here: {missing()}")
def test_rules_go_to_their_partitions(tmp_path: Path) -> None:
    # every rule; that YOLO learns and finds is told elsewhere
    family = ["detector.family=whole_image", "detector.model=whole_image"]
    project = Project(tmp_path / "project", [*TINY, *family, "shards=[s0]"])
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
    assert {jobs[name]["TimeLimit"] for name in ("detector", "images")} == {"1-00:00:00", "1-01:00:00"}
    assert jobs["detector"]["NumCPUs"] == "8"
    assert jobs["detector"]["MinMemoryNode"] == "32000M"
    assert project.due() == []
    assert (project.root / "data/demo/report.html").is_file()
