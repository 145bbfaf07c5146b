"""Presets: all compose and validate, and a local edit is never lost."""

import subprocess

import pytest
import yaml
from project import ROOT, Project

from instar.errors import InputError
from instar.study import compose, names


@pytest.fixture(autouse=True)
def in_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_committed_params_are_the_demo() -> None:
    assert (ROOT / "params.yaml").read_text() == compose("demo", [])


def test_trays_can_learn_taxa() -> None:
    """Photographs whose table tells no licence have the licence unknown, and insects are small and lie anyhow."""
    given = yaml.safe_load(compose("trays", ["labels=[taxon]"]))
    assert "unknown" in given["dataset"]["licences"]
    assert given["images"]["max_photo_mb"] >= 8192 * 5464 * 3 / 1e6
    assert (given["dataset"]["min_crop_px"], given["classifier"]["flip"], given["place"]) == (4, "both", "none")


@pytest.mark.parametrize("group", ["detector", "classifier"])
def test_every_preset_composes(group: str) -> None:
    assert names(group)
    for name in names(group):
        compose("ants", [f"{group}={name}"])


def test_overrides_follow_hydra() -> None:
    assert "beta: 0.5\n" in compose("demo", ["beta=0.5"])


@pytest.mark.parametrize(
    ("count", "first", "last"),
    [(1, "s00", "s00"), (100, "s00", "s99"), (101, "s000", "s100"), (2000, "s0000", "s1999")],
)
def test_a_number_of_shards_gets_names(count: int, first: str, last: str) -> None:
    shards = yaml.safe_load(compose("demo", [f"shards={count}"]))["shards"]
    assert (shards[0], shards[-1], len(set(shards))) == (first, last, count)
    assert shards == sorted(shards)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["demo", "shards=0"], "shards = 0 is not allowed; it must be from 1 to 10000, or a list"),
        (["demo", "shards=10001"], "shards = 10001 is not allowed"),
        (["demoo"], "demoo: no such study; workflow/conf/study has"),
        (["demo", "beta=2"], "study demo beta=2: beta = 2.0 is not allowed"),
        (["demo", "bet=0"], "unknown key bet; do you mean beta?"),
        (
            ["demo", "classifier.frozen_epochs=99"],
            "frozen_epochs = 99 is not allowed; it must be at most classifier.epochs",
        ),
        (["demo", "classifier.model=vit_nope"], "vit_nope"),
        (["demo", "clasifier=resnet10t"], "unknown key clasifier; do you mean classifier?"),
        (["demo", "zzzzzz=0"], "unknown key zzzzzz; 'instar study --help' lists them"),
        (["demo", "beta"], "beta: write key=value"),
        (["demo", "beta=0.9,0.8"], "beta = 0.9,0.8 is not allowed; it is one float"),
        (["demo", "records.licences=cc-by"], r"is a list of str; write records.licences=\[cc-by\]"),
        (["demo", "shards=-3"], "shards = -3 is not allowed"),
        (["demo", "detector=yolo0"], "detector=yolo0: no such preset; workflow/conf/detector has"),
        (["demo", "beta=${"], "demo beta="),
    ],
)
def test_a_bad_preset_is_named(words: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        compose(words[0], words[1:])
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("study") / "project", [])


def test_every_study_dry_runs(project: Project) -> None:
    (project.root / "sources/ants").mkdir(parents=True)
    (project.root / "sources/ants/annotations.json").write_text(
        '{"taxon": ""}'
    )  # which detectors and taxa are learnt from
    for name in names("study"):
        project.run("instar", "study", name, "records.source=sources/ants", "--force")
        due = project.due()
        assert ("classifier" in due) == (name not in ("ant_boxes", "beesense", "trays"))
        assert {"records", "images", "detector", "detections", "crops", "report"} <= set(due)


def test_ablations_are_a_rule_of_studies_of_species_alone(project: Project) -> None:
    for name, target in (("individuals_drawn", "records"), ("demo", "ablations")):
        project.run("instar", "study", name, "--force")
        shown = project.run("snakemake", "-n", target)
        assert f"rule {target}:" in shown and "localrules" not in shown


def test_a_study_under_another_name() -> None:
    given = yaml.safe_load(
        compose("ants", ["study=moths", "records.taxon=Noctuidae", "detector.options={mosaic: 0.5}"])
    )
    assert (given["study"], given["records"]["source"]) == ("moths", "sources/moths")
    assert given["detector"]["options"] == {"mosaic": 0.5}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("detector.options.mosaik=0.3", "detector.options.mosaik: ultralytics has no such option here; it has mosaic"),
        ("detector.options.mosaic=x", "detector.options: .*mosaic"),
        ("detector.options=3", r"detector.options: .*; it must be mapping of names to values \(the library's"),
    ],
)
def test_options_that_the_library_does_not_have(override: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        compose("trays_drawn", [override])
    compose("trays_drawn", ["detector.options.mosaic=0.3", "detector.weights=weights/not/there.pt"])


def test_one_study_after_the_other(project: Project) -> None:
    project.run("git", "checkout", "-q", "--", "params.yaml")
    for name in ("beesense", "own", "demo"):
        project.run("instar", "study", name)
    # what the command wrote was then edited
    project.run("instar", "study", "own")
    project.set("beta: 0.9999", "beta: 0.5")
    assert "holds an edit that git does not" in project.run("instar", "study", "demo", check=False)


def test_an_edit_is_kept_unless_told(project: Project) -> None:
    project.run("git", "checkout", "-q", "--", "params.yaml")
    project.set("beta: 0.9999", "beta: 0.5")
    assert "holds an edit that git does not" in project.run("instar", "study", "beesense", check=False)
    assert "beta: 0.5" in (project.root / "params.yaml").read_text()
    shown = project.run("instar", "study", "demo", "beta=0.25", "--force")
    assert "-beta: 0.5\n+beta: 0.25\n" in shown


def test_what_a_preset_undoes_is_told(project: Project) -> None:
    project.run("git", "checkout", "-q", "--", "params.yaml")
    project.run("instar", "study", "demo", "shards=3", "beta=0.5", "detector.epochs=2")
    command = ["instar", "study", "demo", "beta=0.25", "detector=yolo11s", "detector.epochs=2"]
    done = subprocess.run(command, cwd=project.root, env=project.environment, capture_output=True, text=True)
    told = "instar study: the preset starts afresh, which also undid shards; to keep what you had set, name it again\n"
    assert done.stderr == told
    command = ["instar", "study", "own"]  # another folder
    done = subprocess.run(command, cwd=project.root, env=project.environment, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize(
    "key",
    [
        "records.source",
        "detector.weights",
        "dataset.decisions",
        "dataset.earlier",
        "evaluation.other",
        "evaluation.synonyms",
    ],
)
def test_what_a_parameter_names_must_be_there(project: Project, key: str) -> None:
    project.run("git", "checkout", "-q", "--", "params.yaml")
    project.run("instar", "study", "demo", f"{key}=nowhere/it.csv")
    done = subprocess.run(
        ["snakemake", "-n", "all"], cwd=project.root, env=project.environment, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert f"{key} = nowhere/it.csv: no such file or folder" in done.stderr


def test_a_missing_source_is_one_line(project: Project) -> None:
    project.run("git", "checkout", "-q", "--", "params.yaml")
    project.run("instar", "study", "ants", "records.source=sources/nowhere")
    for command in (["snakemake", "all"], ["instar", "run", "records"]):
        done = subprocess.run(command, cwd=project.root, env=project.environment, capture_output=True, text=True)
        assert done.returncode != 0
        assert "records.source = sources/nowhere: no such file or folder" in done.stderr
        assert "Traceback" not in done.stderr
