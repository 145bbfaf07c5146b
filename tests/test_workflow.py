"""Snakemake and DVC on one workspace: each knows what the other did, and a killed run loses no finished shard."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from project import TINY, WHOLE, Project

from instar.files import sha256_of

NOTHING: list[str] = []

#: Jobs of crops whose command holds $HOLD wait while there is a file called hold.
GATE = """
import os as _os
import sys as _sys
import time as _time

while _os.environ.get("HOLD", "never") in " ".join(_sys.argv) and _os.path.exists("hold"):
    _time.sleep(0.05)
"""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny demo after `snakemake all`, recorded by DVC, committed and pushed."""
    project = Project(tmp_path_factory.mktemp("tiny") / "project", TINY)
    project.run("snakemake", "all")
    # DVC records what Snakemake made and runs nothing: the commands append to this file when they compute
    jobs = (project.root / ".instar/jobs.jsonl").read_bytes()
    project.run("instar", "record")
    assert "up to date" in project.run("dvc", "status")
    assert (project.root / ".instar/jobs.jsonl").read_bytes() == jobs
    project.commit("results")
    project.run("dvc", "push")
    return project


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny demo with whole photographs for boxes, up to the crops, after `dvc repro`."""
    project = Project(tmp_path_factory.mktemp("whole") / "project", [*WHOLE, "shards=[s0,s1,s2,s3]"])
    with (project.root / "src/instar/crops.py").open("a") as file:
        file.write(GATE)
    project.run("dvc", "repro")
    project.commit("results")
    return project


def ran(printed: str) -> list[str]:
    """The stages that DVC said it ran."""
    lines = [line for line in printed.splitlines() if line.startswith("Running stage")]
    return [line.split("'")[1].split("@")[0] for line in lines]


@pytest.mark.xdist_group("finished")
def test_after_snakemake_nothing_is_due_in_both(finished: Project) -> None:
    assert finished.due() == NOTHING
    assert ran(finished.run("dvc", "repro")) == NOTHING


@pytest.mark.xdist_group("finished")
def test_snakemake_makes_what_dvc_records(finished: Project) -> None:
    lines = finished.run("snakemake", "--summary", "all").splitlines()
    table = lines[next(number for number, line in enumerate(lines) if line.startswith("output_file\t")) + 1 :]
    made = {line.split("\t")[0] for line in table if line.startswith("data/")}
    lock = yaml.safe_load((finished.root / "dvc.lock").read_text())["stages"].values()
    recorded = {out["path"] for stage in lock for out in stage["outs"]}
    # DVC records the folder of a scattered stage, Snakemake its files
    folders = {f"data/demo/{stage}" for stage in ("images", "detections", "crops")}
    assert {path for path in made if Path(path).parent.as_posix() not in folders} == recorded - folders
    for folder in folders:
        files = {path.as_posix() for path in (finished.root / folder).iterdir()}
        assert {f"{finished.root}/{path}" for path in made if path.startswith(f"{folder}/")} == files


@pytest.mark.xdist_group("finished")
def test_the_pipeline_never_sees_the_truth(finished: Project) -> None:
    source = finished.root / "data/demo/source"
    names = {path.name for path in source.iterdir()} - {".snakemake_timestamp"}
    assert names == {"annotations.json", "gbif.zip", "inaturalist-open-data", "mirror"}
    annotations = json.loads((source / "annotations.json").read_text())
    assert set(annotations["images"][0]) == {"id", "file_name", "width", "height"}
    assert {category["name"] for category in annotations["categories"]} == {"ant"}


@pytest.mark.xdist_group("finished")
def test_only_what_belongs_together_is_recorded(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    project.set("beta: 0.9999", "beta: 0.5")
    lock = (project.root / "dvc.lock").read_bytes()
    assert "something is due" in project.run("instar", "record", check=False)
    assert (project.root / "dvc.lock").read_bytes() == lock


@pytest.mark.xdist_group("whole")
def test_after_dvc_repro_nothing_is_due_in_snakemake(whole: Project) -> None:
    assert whole.due() == NOTHING


@pytest.mark.xdist_group("finished")
def test_a_changed_beta_runs_classifier_evaluation_report(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    project.set("beta: 0.9999", "beta: 0.5")
    assert project.due() == ["all", "classifier", "evaluation", "report"]
    assert ran(project.run("dvc", "repro")) == ["classifier", "evaluation", "report"]
    assert project.due() == NOTHING
    assert "beta" in project.run("dvc", "params", "diff")
    assert "classifier.json" in project.run("dvc", "metrics", "diff", "--all")
    told = project.run("workflow/scripts/diff.sh", "HEAD")
    assert "## Parameters against `HEAD`" in told
    assert re.search(r"\| params.yaml *\| beta *\| 0.9999 *\| 0.5 *\|", told)
    assert "| data/demo/metrics/classifier.json" in told


@pytest.mark.xdist_group("finished")
def test_a_diff_of_nothing_says_so(finished: Project) -> None:
    told = finished.run("workflow/scripts/diff.sh", "HEAD")
    assert "No parameter differs." in told
    assert "No metric differs." in told
    assert "nowhere: no such revision" in finished.run("workflow/scripts/diff.sh", "nowhere", check=False)


@pytest.mark.xdist_group("finished")
def test_a_changed_source_runs_its_stage_and_what_follows(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    with (project.root / "src/instar/dataset/stage.py").open("a") as file:
        file.write("\n# changed\n")
    assert project.due() == ["all", "classifier", "dataset", "evaluation", "report"]
    assert ran(project.run("dvc", "repro", "--dry"))[0] == "dataset"
    # run only the last stage for real: its source is its own
    project = finished.copy(tmp_path / "other")
    with (project.root / "src/instar/report/stage.py").open("a") as file:
        file.write("\n# changed\n")
    assert project.due() == ["all", "report"]
    assert ran(project.run("dvc", "repro")) == ["report"]
    assert project.due() == NOTHING


@pytest.mark.xdist_group("finished")
def test_after_clone_and_pull_nothing_is_due(finished: Project, tmp_path: Path) -> None:
    project = finished.clone(tmp_path / "project")
    project.run("dvc", "pull")
    assert project.due() == NOTHING
    assert ran(project.run("dvc", "repro")) == NOTHING
    # and a change still is seen: Snakemake was told no more than what DVC proved
    project.set("beta: 0.9999", "beta: 0.5")
    assert project.due() == ["all", "classifier", "evaluation", "report"]


@pytest.mark.xdist_group("finished")
def test_sync_is_pull_and_says_so(finished: Project, tmp_path: Path) -> None:
    project = finished.clone(tmp_path / "project")
    assert "nothing is to be done" in project.run("instar", "sync")
    assert project.due() == NOTHING
    project.set("beta: 0.9999", "beta: 0.5")
    assert "something differs from dvc.lock" in project.run("instar", "sync", check=False)


@pytest.mark.xdist_group("finished")
def test_a_half_pulled_folder_is_not_believed(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    (project.root / "data/demo/predictions.parquet").unlink()
    (project.root / ".instar/settled").unlink(missing_ok=True)
    assert project.due() == ["all", "evaluation", "report"]


@pytest.mark.xdist_group("finished")
def test_dvc_shows_metrics_and_plots(finished: Project) -> None:
    shown = finished.run("dvc", "metrics", "show")
    assert "data/demo/metrics/evaluation.json" in shown
    finished.run("dvc", "plots", "show", "-o", "plots-page")
    assert "detection_pr" in (finished.root / "plots-page/index.html").read_text()


@pytest.mark.xdist_group("finished")
def test_snakemake_report_works(finished: Project, tmp_path: Path) -> None:
    finished.run("snakemake", "--report", str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").stat().st_size > 10_000


@pytest.mark.xdist_group("whole")
def test_experiments_in_the_workspace_and_queued(whole: Project, tmp_path: Path) -> None:
    project = whole.copy(tmp_path / "project")
    project.run("dvc", "exp", "run", "-n", "here", "-S", "crops.jpeg_quality=50")
    assert project.due() == NOTHING
    project.run("git", "checkout", "-q", "--force", ".")
    project.run("dvc", "checkout", "--force", "-q")
    project.run("dvc", "exp", "run", "--queue", "-S", "crops.jpeg_quality=choice(60,70)")
    project.run("dvc", "queue", "start", "-j", "1")
    wait_for(lambda: project.run("dvc", "queue", "status").count("Success") == 2, seconds=600)
    shown = json.loads(project.run("dvc", "exp", "show", "--json"))
    assert qualities(shown) >= {50, 60, 70}


def qualities(shown: object) -> set[int]:
    """Every value of crops.jpeg_quality anywhere in the table of experiments."""
    if isinstance(shown, dict):
        own = {shown["jpeg_quality"]} if isinstance(shown.get("jpeg_quality"), int) else set()
        return own.union(*(qualities(value) for value in shown.values()))
    if isinstance(shown, list):
        return set().union(*(qualities(value) for value in shown))
    return set()


def wait_for(condition: object, seconds: float) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)


@pytest.mark.xdist_group("whole")
def test_a_bad_parameter_stops_everything_before_the_first_job(whole: Project, tmp_path: Path) -> None:
    project = whole.copy(tmp_path / "project")
    before = (project.root / ".instar/jobs.jsonl").read_bytes()
    project.set("beta: 0.9999", "beta: 1.5")
    project.set("jpeg_quality: 90", "jpeg_quality: 0")
    for command in (["snakemake", "all"], ["dvc", "repro"], ["instar", "run", "crops"]):
        done = subprocess.run(command, cwd=project.root, env=project.environment, capture_output=True, text=True)
        assert done.returncode != 0
        assert "beta = 1.5 is not allowed; it must be at least 0 and below 1" in done.stderr + done.stdout
        assert "Traceback" not in done.stderr
    assert (project.root / ".instar/jobs.jsonl").read_bytes() == before


def test_an_error_is_told_again_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "own/images").mkdir(parents=True)
    (tmp_path / "own/images/a.jpg").write_bytes(b"no photograph")
    (tmp_path / "own/table.csv").write_text("file,licence\na.jpg,FOO\n")
    project = Project(tmp_path / "project", [*WHOLE, "records.kind=folder", f"records.source={tmp_path}/own"])
    printed = project.run("snakemake", "stage_records", check=False)
    assert "line 2: licence 'FOO' is none of" in printed.split("Shutting down")[-1]


@pytest.mark.xdist_group("whole")
def test_two_runs_in_one_workspace_are_refused(whole: Project, tmp_path: Path) -> None:
    project = whole.copy(tmp_path / "project")
    project.set("jpeg_quality: 90", "jpeg_quality: 42")
    before = len(kept(project, "crops"))
    first = start(project, "snakemake", "stage_crops", hold="/s3.")
    wait_for(lambda: len(kept(project, "crops")) > before, seconds=300)
    there = sorted((project.root / "data/demo/images").iterdir())
    for command in (["snakemake", "stage_crops"], ["instar", "run", "crops"]):
        assert "another run works in this folder" in project.run(*command, check=False)
    # DVC would delete outputs before it runs a command that could refuse: its own lock stops it
    assert "Unable to acquire lock" in project.run("dvc", "repro", "--force", "images", check=False)
    assert sorted((project.root / "data/demo/images").iterdir()) == there
    (project.root / "hold").unlink()
    assert first.wait() == 0
    assert project.due("stage_crops") == NOTHING


@pytest.mark.xdist_group("whole")
def test_fewer_shards_leave_no_orphans(whole: Project, tmp_path: Path) -> None:
    project = whole.copy(tmp_path / "project")
    project.set("- s3\n", "")
    printed = project.run("snakemake", "stage_images")
    assert not list((project.root / "data/demo").glob("*/s3.*"))
    assert "spool/demo keeps the photographs of 1 shards that are not in params.yaml; 'instar prune' frees" in printed


# Kills. A shard counts as finished when the store kept it.


def start(project: Project, *command: str, hold: str) -> subprocess.Popen[bytes]:
    """Start a run whose crops jobs wait where their command holds ``hold``."""
    (project.root / "hold").touch()
    environment = {**project.environment, "HOLD": hold}
    with (project.root.parent / "killed.log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=project.root, env=environment, stdout=log, stderr=log, start_new_session=True
        )


def notes(project: Project, stage: str, what: str) -> list[str]:
    """The shards of a stage that were computed, kept or restored, in order."""
    lines = (project.root / ".instar/jobs.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    prefix = f"data/demo/{stage}/"
    return [entry["key"] for entry in entries if entry["what"] == what and entry["outputs"][0].startswith(prefix)]


def kept(project: Project, stage: str) -> list[str]:
    return notes(project, stage, "kept")


def contents(project: Project) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted((project.root / "data/demo/crops").iterdir())}


@pytest.fixture(scope="session")
def truth(whole: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, str]]:
    """Contents of all crops by JPEG quality, each computed from scratch with a store of its own."""
    found = {}
    for quality in (40, 60):
        project = whole.copy(tmp_path_factory.mktemp(f"truth{quality}") / "project")
        project.set("jpeg_quality: 90", f"jpeg_quality: {quality}")
        project.run("instar", "run", "crops")
        found[quality] = contents(project)
    assert found[40] != found[60]
    return found


def killed(project: Project, command: list[str]) -> list[str]:
    """Start a run of crops at quality 40 and kill -9 all of it before its last shard; the keys of what was finished."""
    project.set("jpeg_quality: 90", "jpeg_quality: 40")
    before = set(kept(project, "crops"))
    process = start(project, *command, hold="/s3.")
    wait_for(lambda: len(set(kept(project, "crops")) - before) >= 2, seconds=300)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = [key for key in kept(project, "crops") if key not in before]
    assert 2 <= len(done) < 4
    return done


STARTS = {"dvc": ["dvc", "repro", "crops"], "snakemake": ["snakemake", "stage_crops"]}


@pytest.mark.xdist_group("whole")
@pytest.mark.parametrize(("first", "then"), [("dvc", "dvc"), ("dvc", "snakemake"), ("snakemake", "dvc")])
def test_a_killed_stage_keeps_its_finished_shards(
    whole: Project, truth: dict[int, dict[str, str]], tmp_path: Path, first: str, then: str
) -> None:
    project = whole.copy(tmp_path / "project")
    done = killed(project, STARTS[first])
    project.run(*STARTS[then])
    assert contents(project) == truth[40]
    computed = notes(project, "crops", "computed")
    assert [computed.count(key) for key in done] == [1] * len(done)


@pytest.mark.xdist_group("whole")
@pytest.mark.parametrize("first", ["dvc", "snakemake"])
def test_a_killed_stage_then_another_parameter(
    whole: Project, truth: dict[int, dict[str, str]], tmp_path: Path, first: str
) -> None:
    project = whole.copy(tmp_path / "project")
    done = killed(project, STARTS[first])
    project.run("dvc", "checkout", "--force", "--quiet")
    project.set("jpeg_quality: 40", "jpeg_quality: 60")
    project.run("dvc", "repro", "crops")
    assert contents(project) == truth[60]
    # back again: what was finished before the kill is still there
    project.set("jpeg_quality: 60", "jpeg_quality: 40")
    project.run("dvc", "repro", "crops")
    assert contents(project) == truth[40]
    computed = notes(project, "crops", "computed")
    assert [computed.count(key) for key in done] == [1] * len(done)


@pytest.mark.xdist_group("whole")
def test_a_killed_stage_then_another_commit(whole: Project, truth: dict[int, dict[str, str]], tmp_path: Path) -> None:
    project = whole.copy(tmp_path / "project")
    project.set("jpeg_quality: 90", "jpeg_quality: 60")
    project.commit("quality 60")
    project.run("git", "checkout", "-q", "HEAD~1")
    killed(project, STARTS["dvc"])
    project.run("git", "checkout", "-q", "--force", "-")
    project.run("dvc", "repro", "crops")
    assert contents(project) == truth[60]


@pytest.mark.xdist_group("whole")
def test_jobs_that_outlive_their_run_write_over_nothing(
    whole: Project, truth: dict[int, dict[str, str]], tmp_path: Path
) -> None:
    project = whole.copy(tmp_path / "project")
    project.set("jpeg_quality: 90", "jpeg_quality: 40")
    before = len(notes(project, "crops", "computed"))
    process = start(project, *STARTS["snakemake"], hold="/s")
    wait_for(lambda: len(notes(project, "crops", "computed")) > before, seconds=300)
    orphans = notes(project, "crops", "computed")[before:]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    project.set("jpeg_quality: 40", "jpeg_quality: 60")
    project.run(*STARTS["snakemake"])
    assert contents(project) == truth[60]
    # only now the first run's jobs go on: into the store, and nowhere else
    (project.root / "hold").unlink()
    wait_for(lambda: set(orphans) <= set(kept(project, "crops")), seconds=300)
    wait_for(lambda: not list((project.root / ".instar/staging").iterdir()), seconds=300)
    assert contents(project) == truth[60]
