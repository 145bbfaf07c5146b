"""The DAG as dvc.yaml describes it, resolved for the study in params.yaml: what the Snakefile's rules are made of."""

import json
import mmap
import re
import shlex
from dataclasses import asdict, dataclass, is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from instar.errors import InputError
from instar.params import PATH, Params, load

DVC_YAML = Path("dvc.yaml")
#: Beside photographs of one's own, one of them holds the boxes that a detector learns from; see ``records.annotated``.
ANNOTATIONS = ("annotations.json", "annotations", "labels")
#: Of trays: MassID45's and this project's own names, or what an annotation tool exports; see ``records.trays.read``.
OUTLINES = ("annots*.json", "annotations.json", "*.json", "**/labels/**/*.txt")
#: COCO's, which may tell taxa; LabelMe's many files beside photographs, pictures in them, cannot.
WITH_TAXA = ("*.json", "annotations/*.json", "**/_annotations.coco.json")
#: The published set of a kind, and the command that fetches it.
SOURCES = {"trays": ("MassID45", "zenodo"), "individuals": ("AnimalCLEF25", "kaggle")}


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml. Paths are relative to the project's root."""

    name: str
    deps: list[str]
    params: list[str]
    outs: list[str]
    metrics: list[str]
    plots: list[str]
    scatter: list[str]  # suffixes of the files that each shard writes into outs[0]; empty if the stage is one job
    named: dict[str, list[str]]  # dependencies that are the value of a parameter, by its last name

    @property
    def products(self) -> list[str]:
        return [*self.outs, *self.metrics, *self.plots]


class Dag:
    """The stages that the study has, and the files between them."""

    def __init__(self, params: Params, stages: dict[str, Stage]) -> None:
        self.params = params
        self.stages = stages
        self.data = f"data/{params.study}"
        self._producer = {path: stage for stage in stages.values() for path in stage.products}

    @property
    def local(self) -> str:
        """The folder of photographs that are no one else's: the source, or what was drawn from its description."""
        source = self.params.records.source
        return f"{self.data}/source" if Path(source).is_file() else source

    def inputs(self, name: str) -> dict[str, Any]:
        """What a rule reads, by name: data under their stems, source modules under ``code``.

        The output folder of a scattered stage stands for its files: for a scattered stage those of the same shard
        (``{shard}`` is Snakemake's wildcard; a second file is called ``<stem>_<suffix>``), else those of all shards.
        A folder that is no single output (``metrics``, ``plots``) stands for the study's files in it, and for what
        ``instar compare`` left there. A file or folder that a parameter names is called like the parameter.
        """
        stage = self.stages[name]
        found: dict[str, Any] = {"code": []}
        for path in stage.deps:
            if path.startswith("src/"):
                found["code"] += sources(path)
            elif (producer := self._producer.get(path)) and producer.scatter and stage.scatter:
                found.update(self.shard_files(producer.name))
            elif producer and producer.scatter:
                found[_stem(path)] = [
                    f"{path}/{shard}.{end}" for shard in self.params.shards for end in producer.scatter
                ]
            elif producer or path == PATH.as_posix():
                found[_stem(path)] = path
            elif path.startswith(f"{self.data}/"):
                found[_stem(path)] = [product for product in self._producer if product.startswith(f"{path}/")]
                found[_stem(path)] += sorted(
                    left.as_posix() for left in Path(path).glob("compared/*.json")
                )  # see compared.py
        return found | {name: [file for path in paths for file in sources(path)] for name, paths in stage.named.items()}

    def outputs(self, name: str) -> dict[str, str]:
        """What a rule that is one job writes, by name: stems of the paths, ``metrics`` for the figures."""
        stage = self.stages[name]
        named = {_stem(path): path for path in [*stage.plots, *stage.outs]}
        curves = {f"{_stem(path)}_curves": path for path in stage.plots if _stem(path) in map(_stem, stage.outs)}
        return named | curves | dict(zip(["metrics"], stage.metrics, strict=False))

    def shard_files(self, name: str) -> dict[str, str]:
        """The files of one shard of a scattered stage: ``<name>`` and ``<name>_<suffix>``, with the wildcard shard."""
        first, *others = self.stages[name].scatter
        folder = self.stages[name].outs[0]
        return {name: f"{folder}/{{shard}}.{first}"} | {f"{name}_{end}": f"{folder}/{{shard}}.{end}" for end in others}

    def targets(self, name: str) -> list[str]:
        """Every file that must be there when the stage is done."""
        stage = self.stages[name]
        if not stage.scatter:
            return stage.products
        shards = [path.format(shard=shard) for path in self.shard_files(name).values() for shard in self.params.shards]
        return [*shards, *stage.metrics]

    def values(self, name: str) -> dict[str, Any]:
        """The stage's parameters by the names of its keyword arguments."""
        values: dict[str, Any] = {}
        for key in self.stages[name].params:
            section, _, leaf = key.rpartition(".")
            holder = getattr(self.params, section) if section else self.params
            value = getattr(holder, leaf)
            values.update(asdict(value) if is_dataclass(value) and not isinstance(value, type) else {leaf: value})
        return values

    def flags(self, name: str, without: tuple[str, ...] = ()) -> str:
        """The stage's parameters as options of its command, quoted for a shell."""
        return options({key: value for key, value in self.values(name).items() if key not in without})

    def orphans(self) -> list[Path]:
        """Files in the folders of scattered stages that belong to no shard of the study."""
        found = []
        for stage in self.stages.values():
            if stage.scatter:
                wanted = set(self.targets(stage.name))
                found += [path for path in sorted(Path(stage.outs[0]).glob("*")) if path.as_posix() not in wanted]
        return found


def read(params_path: Path = PATH, *, look: bool = True) -> Dag:
    """The DAG of the study in ``params_path``.

    Args:
        params_path: params.yaml.
        look: into the source folder, for what there is to learn from; a job need not, since the run began with it.

    Raises:
        InputError: if the parameters are not valid (see ``instar.params.load``), dvc.yaml or a file or folder that
            they name is missing, or a detector or a classifier of taxa has nothing to learn from.
    """
    params = load(params_path)
    if not DVC_YAML.is_file():
        raise InputError(f"{DVC_YAML}: no such file; run instar from the project's root")
    values = OmegaConf.structured(params)
    described: Any = OmegaConf.to_container(OmegaConf.load(DVC_YAML))
    stages = described["stages"]
    wanted = {name: entry for name, entry in stages.items() if _fill(entry.get("foreach", "kept"), values)}
    bodies = {name: entry.get("do", entry) for name, entry in wanted.items()}
    for key in dict.fromkeys(key for body in bodies.values() for key in _path_keys(body)):
        value = attrgetter(key)(params)
        if not Path(value).exists():
            raise InputError(
                f"{params_path}: {key} = {value}: no such file or folder; {_fetching(key, params)}put it there or name "
                "where it lies (an experiment outside the workspace needs an absolute path)"
            )
    look = look and Path(params.records.source).is_dir()
    if look and params.records.kind in SOURCES and params.detector.epochs:
        _check_annotated(params, params_path)
    if look and params.labels == ["taxon"]:
        _check_taxa(Path(params.records.source), params_path)
    return Dag(params, {name: _stage(name, body, values) for name, body in bodies.items()})


def _check_annotated(params: Params, params_path: Path) -> None:
    """Refuse a detector without anything to learn from before the photographs are fetched."""
    from instar.detectors import UNTRAINED, needs_training  # here, since it loads NumPy

    source = Path(params.records.source)
    of_trays = params.records.kind == "trays"
    wanted = OUTLINES if of_trays else ANNOTATIONS
    is_there = _is_outlined(source) if of_trays else any((source / name).exists() for name in ANNOTATIONS)
    if needs_training(params.detector.family) and not is_there:
        raise InputError(
            f"{params_path}: detector.family = {params.detector.family} learns from annotated photographs, and "
            f"{source} has none of {', '.join(wanted)}; annotate some, choose one that needs no training "
            f"({', '.join(UNTRAINED)}), or set detector.epochs to 0 and detector.weights to a trained detector's"
        )


def _check_taxa(source: Path, params_path: Path) -> None:
    """Refuse a classifier of taxa where no outline can carry one; a table of labels, or the word in a file, will do."""
    if any(source.glob("taxa*.json")):
        return
    if not any(_holds(path, b'"taxon"') for name in WITH_TAXA for path in source.glob(name)):
        raise InputError(
            f"{params_path}: labels = [taxon] learns taxa, and no outline in {source} carries one; give "
            "taxa_<date>_coco.json, or 'taxon' of each outline in annotations.json (data/README.md), or set labels=[]"
        )


def _holds(path: Path, word: bytes) -> bool:
    """Whether a file holds a word; of gigabytes, no more than what the system reads ahead is in memory."""
    if not path.is_file():  # a folder or a dangling link may be called so, too
        return False
    try:
        if not path.stat().st_size:
            return False
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(word) >= 0
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); mend it or remove it") from None


def _is_outlined(source: Path) -> bool:
    """Whether a folder of trays has a file that may hold outlines, anywhere; that of the labels alone holds none."""
    from instar.records.trays.exports import may_hold  # here, since it loads NumPy

    return any(may_hold(source, path) for name in OUTLINES for path in source.rglob(name))


def _fetching(key: str, params: Params) -> str:
    """How to fetch the published model or data set that a parameter names, if it names one."""
    kind = params.records.kind
    if key == "records.source" and kind in SOURCES:
        set_name, command = SOURCES[kind]
        return f"fetch {set_name}'s with 'instar source {command}', or "
    section = params.detector
    hub = {"detector.weights": section.model, "detector.sam": section.options.get("sam_model")}.get(key)
    if hub is None or "sam_model" not in section.options:
        return ""
    return f"hf download {hub} --local-dir {attrgetter(key)(params)}, or "


def _stage(name: str, entry: dict[str, Any], values: Any) -> Stage:
    kinds = ("deps", "outs", "metrics", "plots")
    paths = {kind: [_fill(_path(item), values) for item in entry.get(kind, [])] for kind in kinds}
    named: dict[str, list[str]] = {}
    for key in _path_keys(entry):
        named.setdefault(key.rpartition(".")[2], []).append(_fill(f"${{{key}}}", values))
    scatter = entry.get("meta", {}).get("scatter", [])
    return Stage(name=name, params=entry.get("params", []), scatter=scatter, named=named, **paths)


def _path_keys(entry: dict[str, Any]) -> list[str]:
    """The parameters whose values are dependencies of a stage, such as ``records.source``."""
    matches = [re.fullmatch(r"\$\{((?:\w+\.)*\w+)\}", item) for item in entry.get("deps", [])]
    return [match.group(1) for match in matches if match]


def _path(item: str | dict[str, Any]) -> str:
    return item if isinstance(item, str) else next(iter(item))


def _fill(text: str, values: Any) -> Any:
    """Replace ${key} as DVC does; OmegaConf's interpolation has the same grammar but leaves the keys of mappings."""
    return OmegaConf.create({"text": text}, parent=values)["text"] if "${" in text else text


def _stem(path: str) -> str:
    return Path(path).stem


def options(values: dict[str, Any]) -> str:
    """Keyword arguments as options of a command, quoted for a shell."""
    return shlex.join(f"--{key}={_text(value)}" for key, value in values.items())


def sources(path: str) -> list[str]:
    """The files of a folder, or the file itself: the time of a folder does not tell of a changed file in it."""
    if not Path(path).is_dir():
        return [path]
    return sorted(p.as_posix() for p in Path(path).rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
