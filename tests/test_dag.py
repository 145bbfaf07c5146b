"""dvc.yaml is the one description of the DAG: rules, commands and imports must agree with it."""

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from project import ROOT

from instar import compared, dag
from instar.cli import COMMANDS
from instar.errors import InputError
from instar.files import write_json
from instar.study import compose
from instar.tables import IMAGES, write_table
from instar.workflow import tell_dropped

SOURCE = ROOT / "src"
#: Linux gives its bytes, but does not map them.
OF_SYSTEM = Path("/sys/devices/system/cpu/online")


@pytest.fixture(autouse=True)
def in_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def graph(in_project: None) -> dag.Dag:
    return dag.read()


STAGES = ["records", "images", "detector", "detections", "detection_metrics", "crops"]
STAGES += ["dataset", "classifier", "evaluation", "report"]


def test_the_ten_stages(graph: dag.Dag) -> None:
    assert list(graph.stages) == STAGES


def test_a_detector_of_individuals_needs_something_to_learn_from(tmp_path: Path) -> None:
    source, params = tmp_path / "lynxes", tmp_path / "params.yaml"
    source.mkdir()

    def read(*overrides: str) -> dag.Dag:
        params.write_text(compose("individuals", [f"records.source={source}", *overrides]))
        return dag.read(params)

    with pytest.raises(InputError, match=r"detector.family = yolo learns from annotated photographs, and .*lynxes has"):
        read("detector=yolo11n")
    read("detector=yolo11n", "detector.epochs=0")
    read("detector=watershed", "detector.epochs=1")
    (source / "annotations.json").write_text("{}")
    read("detector=yolo11n")


@pytest.mark.parametrize(
    "name",
    ["annotations.json", "annots_20250307_coco.json", "x/A_1.json", "labels/a/A_1.txt", "train/labels/A_1.txt"],
)
def test_a_detector_of_trays_needs_outlines(tmp_path: Path, name: str) -> None:
    source, params = tmp_path / "trays", tmp_path / "params.yaml"
    source.mkdir()
    (source / "labels").mkdir()
    (source / "x.json").mkdir()
    (source / "a.json").symlink_to("nothing")
    for other in ("taxa_20250307_coco.json", "zenodo-15479861.json", "labels/classes.txt"):
        (source / other).write_text("{}")

    def read(*overrides: str) -> dag.Dag:
        params.write_text(compose("trays", [f"records.source={source}", *overrides]))
        return dag.read(params)

    with pytest.raises(InputError, match=r"maskrcnn learns from .*trays has none of annots\*.json, .* \(whole_image, "):
        read()
    read("detector=watershed")
    (source / name).parent.mkdir(parents=True, exist_ok=True)
    (source / name).write_text("{}")
    read()


def test_a_classifier_of_taxa_needs_taxa(tmp_path: Path) -> None:
    source, params = tmp_path / "trays", tmp_path / "params.yaml"
    source.mkdir()
    params.write_text(compose("trays", [f"records.source={source}", "labels=[taxon]"]))
    outlines = source / "annotations.json"
    (source / "x.json").mkdir()
    (source / "a.json").symlink_to("nothing")
    for text in ("", '{"annotations": [{"id": 1, "segmentation": []}]}'):
        outlines.write_text(text)
        with pytest.raises(
            InputError, match=r"no outline in .*trays carries one; give taxa_<date>_coco.json, or 'taxon'"
        ):
            dag.read(params)
    dag.read(params, look=False)
    (source / "images").mkdir()
    (source / "images/A.json").write_text('{"shapes": [{"label": "taxon", "flags": {"taxon": true}}]}')
    with pytest.raises(InputError, match="no outline"):  # LabelMe's cannot carry one
        dag.read(params)
    for name in ("annotations.json", "annotations/instances_default.json", "train/_annotations.coco.json"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text('{"annotations": [{"id": 1, "taxon": "Diptera"}]}')
        dag.read(params)
        (source / name).write_text("{}")
    (source / "taxa_20250307_coco.json").write_text("{}")
    dag.read(params)


@pytest.mark.skipif(not OF_SYSTEM.is_file(), reason=f"no {OF_SYSTEM}")
def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    source, params = tmp_path / "trays", tmp_path / "params.yaml"
    source.mkdir()
    params.write_text(compose("trays", [f"records.source={source}", "labels=[taxon]"]))
    (source / "annotations.json").symlink_to(OF_SYSTEM)
    with pytest.raises(InputError, match=r"annotations.json: cannot be read \(.*\); mend it or remove it"):
        dag.read(params)


@pytest.mark.parametrize(("study", "command"), [("trays", "zenodo"), ("individuals", "kaggle")])
def test_a_missing_source_tells_how_to_fetch_it(tmp_path: Path, study: str, command: str) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(compose(study, [f"records.source={tmp_path / 'none'}"]))
    with pytest.raises(
        InputError, match=rf"none: no such file or folder; fetch \w+'s with 'instar source {command}', or"
    ):
        dag.read(params)


def test_photographs_that_could_not_be_had_are_named_at_the_end(
    graph: dag.Dag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tell_dropped(graph)  # nothing is there
    path = Path(graph.stages["images"].metrics[0])
    for dropped in ({}, {"not an image": 1, "truncated": 2}):
        write_json(path, {"rows": {"in": 1200, "out": 1200 - sum(dropped.values()), "dropped": dropped}})
        for n, shard in enumerate(graph.params.shards):
            row = {"key": f"trays-{n}", "source": "trays", "photo_id": str(n), "url": "", "reason": "truncated"}
            row |= {"observation_id": "", "licence": "", "basis": "", "shard": shard}
            write_table(Path(graph.stages["images"].outs[0]) / f"{shard}.parquet", [row] if n else [], IMAGES)
        tell_dropped(graph)
    told = "images: 3 of 1,200 photographs are left out (not an image: 1, truncated: 2), such as trays-1\n"
    assert capsys.readouterr().err == told


def test_photographs_that_were_drawn_lie_in_the_output(graph: dag.Dag) -> None:
    assert graph.local == "data/demo/source"  # the demo's source is a description
    graph.params.records.source = "tests"
    assert graph.local == "tests"


def module_path(name: str) -> Path | None:
    path = SOURCE / Path(*name.split("."))
    if (path / "__init__.py").is_file():
        return path / "__init__.py"
    return path.with_suffix(".py") if path.with_suffix(".py").is_file() else None


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            raise AssertionError(f"{path}: relative import; the closure below reads absolute ones")
    return {name for name in names if name.startswith("instar.") and module_path(name)}


def closure(module: str) -> set[Path]:
    """All files of the package that running a module can import."""
    todo, seen = {module}, set()
    while todo:
        name = todo.pop()
        seen.add(name)
        path = module_path(name)
        assert path is not None
        todo |= imported(path) - seen
    return {path for name in seen if (path := module_path(name))}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_what_it_imports(graph: dag.Dag, stage: str) -> None:
    declared = {dep for dep in graph.stages[stage].deps if dep.startswith("src/")}
    if graph.stages[stage].scatter:
        declared.discard("src/instar/tally.py")  # a second rule of the stage
    modules = {path.relative_to(ROOT).as_posix() for path in closure(COMMANDS[stage][0])}
    undeclared = {m for m in modules if not any(m == dep or m.startswith(f"{dep}/") for dep in declared)}
    assert not undeclared
    needless = {dep for dep in declared if not any(m == dep or m.startswith(f"{dep}/") for m in modules)}
    assert not needless


@pytest.mark.parametrize("stage", STAGES)
def test_every_parameter_of_a_stage_is_on_its_command_line(graph: dag.Dag, stage: str) -> None:
    """The options that a rule gives are the function's own, none is left to a default."""
    module, function, _ = COMMANDS[stage]
    signature = inspect.signature(getattr(importlib.import_module(module), function))
    rules = {path.stem: path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk")}
    text = rules["detections" if stage == "detection_metrics" else stage]
    text = re.split(r"^rule \w+:$", text, flags=re.M)[1 + (stage == "detection_metrics")]
    without = re.search(r"GRAPH.flags\([^)]*without=\(([^)]*)\)", text)
    flags = graph.flags(stage, without=tuple(re.findall(r'"(\w+)"', without.group(1))) if without else ())
    given = re.findall(r"--(\w+) ", text.split("instar " + stage, 1)[1]) + re.findall(r"--(\w+)=", flags)
    assert sorted(given) == sorted(signature.parameters)


def test_a_stage_reads_no_parameters_by_itself() -> None:
    """Only the report shows params.yaml, and that is a declared input of it."""
    for stage in STAGES:
        if stage != "report":
            assert SOURCE / "instar/params.py" not in closure(COMMANDS[stage][0])


def test_a_scattered_input_is_the_shards_own(graph: dag.Dag) -> None:
    inputs = graph.inputs("crops")
    assert inputs["images"] == "data/demo/images/{shard}.parquet"
    assert inputs["images_tar"] == "data/demo/images/{shard}.tar"
    assert inputs["detections"] == "data/demo/detections/{shard}.parquet"


def test_a_gathered_input_is_the_named_shards(graph: dag.Dag) -> None:
    assert graph.inputs("detection_metrics")["detections"] == [
        f"data/demo/detections/{shard}.parquet" for shard in graph.params.shards
    ]


def test_the_report_depends_on_what_compare_left(graph: dag.Dag, tmp_path: Path) -> None:
    left = tmp_path / "data/plots" / compared.FOLDER / compared.ZOOMS
    graph.data = str(tmp_path / "data")
    graph.stages["report"].deps.append(str(tmp_path / "data/plots"))
    assert graph.inputs("report")["plots"] == []
    compared.keep(left, "zoom", [], {})
    assert not left.exists()
    compared.keep(left, "zoom", [{"zoom": 2.0}], {})
    assert graph.inputs("report")["plots"] == [str(left)]


def test_many_files_of_a_folder_are_one_word_of_a_command() -> None:
    rules = (ROOT / "workflow/rules/common.smk").read_text()
    scope: dict[str, Any] = {"Path": Path, "FOLDERS": {"data/images", "specimens"}}
    exec(rules[rules.index("def words") :].partition("\n\n\n")[0], scope)
    assert scope["words"](["specimens/a/1.jpg", "specimens/2.jpg"]) == ["specimens"]
    assert scope["words"](["specimens/2.jpg", "specimens_2/1.jpg"]) == ["specimens/2.jpg", "specimens_2/1.jpg"]
    assert scope["words"]("data/images/a.tar") == ["data/images/a.tar"]


def test_the_cluster_profile_gives_gpus_to_the_stages_that_want_one() -> None:
    described = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    wanting = {name for name, entry in described.items() if entry.get("do", entry).get("meta", {}).get("gpu")}
    wanting.add("ablation")  # trains a classifier; not DVC's
    resources = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())["set-resources"]
    assert {name for name, given in resources.items() if given.get("gpu")} == wanting
    assert {name for name, given in resources.items() if given.get("slurm_partition") == "gpu"} == wanting
