"""The command line: one command for each stage, made from the stage function's signature and docstring."""

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import instar
from instar.errors import InputError
from instar.files import naming_full_disk

#: name -> (module, function, one line of help); the module is imported only when its command runs
COMMANDS: dict[str, tuple[str, str, str]] = {
    "records": ("instar.records.stage", "records", "read the sources: one row per photograph"),
    "images": ("instar.images.stage", "images", "fetch and check the photographs of one shard"),
    "detector": ("instar.detector", "detector", "train the detector"),
    "detections": ("instar.detections", "detections", "boxes on the photographs of one shard"),
    "detection_metrics": ("instar.detection_metrics.stage", "detection_metrics", "the detector's COCO figures"),
    "crops": ("instar.crops", "crops", "cut the animals of one shard out"),
    "dataset": ("instar.dataset.command", "dataset", "clean, label and split the crops"),
    "classifier": ("instar.classifier.stage", "classifier", "train the classifier"),
    "evaluation": ("instar.evaluation.command", "evaluation", "the classifier's figures"),
    "whole_photographs": ("instar.ablations.whole", "whole_photographs", "photographs whole, to compare crops with"),
    "ablation": ("instar.ablations.run", "ablation", "train one variant of the classifier and let it answer"),
    "ablations": ("instar.ablations.table", "ablations", "the table of what the variants differ in"),
    "report": ("instar.report.stage", "report", "the page about all of it"),
    "tally": ("instar.tally", "tally", "count what became of the rows of a scattered stage"),
    "study": ("instar.study", "study", "write params.yaml from a preset: instar study ants beta=0.999"),
    "source": ("instar.sources.command", "source", "fetch records: instar source backbone; see instar source --help"),
    "compare": (
        "instar.compare.command",
        "compare",
        "detectors, zooms of one, classifiers, or ways to split",
    ),
    "identify": ("instar.identify.command", "identify", "name the animals on photographs"),
    "enroll": ("instar.enroll.command", "enroll", "make individuals known without training anew"),
    "pairs": ("instar.pairs.command", "pairs", "pairs of photographs that a person should compare, as a page"),
    "tray": ("instar.tray.command", "tray", "one photograph with its detections as a page to zoom into"),
    "export": ("instar.export.command", "export", "write the models with card and attribution, to be handed over"),
    "run": ("instar.workflow", "run", "run one stage through Snakemake, as dvc repro does"),
    "record": ("instar.workflow", "record", "record in DVC what snakemake all made; runs nothing"),
    "sync": ("instar.workflow", "sync", "dvc pull, then tell Snakemake that nothing is to be done"),
    "job": ("instar.job", "job", "run a command whose outputs appear whole or not at all"),
    "world": ("instar.records.world", "draw_world", "draw a world of ants, with its truth for tests"),
    "prune": ("instar.store", "prune", "delete what the store and the spool keep and no run has used for some days"),
}

#: commands that read their words themselves
RAW = {"study", "source", "compare", "identify", "enroll", "pairs", "tray", "export", "job"}
#: what the docstring of a command's function leaves to be said of the command
NOTES = {
    "world": "Ants alone, as study demo has them. The trays and individuals of the other descriptions below "
    "workflow/conf/world are drawn by the stage records: instar study trays_drawn, or individuals_drawn."
}
#: commands whose arguments are given by place, not by name
POSITIONAL = {"run"}


def main() -> int:
    """Run the command in ``sys.argv``; 0 when it went well, 2 for bad input, told in one line."""
    _use_workspace_package()
    # torch's threads spin while they wait for each other: where anything else has a core, training takes 3 to 4 times
    # as long (docs/log.md). OpenMP reads this when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(instar.__version__)
        return 0
    if arguments[0] not in COMMANDS:
        print(f"instar: no command {arguments[0]!r}; 'instar --help' lists them", file=sys.stderr)
        return 2
    try:
        with naming_full_disk(Path.cwd()):
            return _dispatch(arguments[0], arguments[1:])
    except InputError as error:
        print(f"instar {arguments[0]}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"instar {arguments[0]}: stopped", file=sys.stderr)
        return 130


def _dispatch(name: str, words: list[str]) -> int:
    module, function, _ = COMMANDS[name]
    call: Callable[..., Any] = getattr(importlib.import_module(module), function)
    if name in RAW:
        return int(call(words) or 0)
    from jsonargparse import auto_cli

    result = auto_cli(call, args=words, as_positional=name in POSITIONAL, prog=f"instar {name}", epilog=NOTES.get(name))
    return result if isinstance(result, int) else 0


def _help() -> str:
    lines = [instar.__doc__ or "", "instar COMMAND --help tells what a command reads and writes.", ""]
    return "\n".join(lines + [f"  {name:<18} {text}" for name, (_, _, text) in COMMANDS.items()])


def _use_workspace_package() -> None:
    """Run the package of the folder we are in: an experiment's copy of the project must run its own source.

    The environment holds instar as an editable install of one checkout; `dvc exp run --temp` works in another.
    """
    here = Path("src/instar/__init__.py")
    if here.is_file() and not here.samefile(Path(__file__).with_name("__init__.py")):
        paths = [str(Path("src").resolve()), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        os.execve(sys.executable, [sys.executable, "-m", "instar", *sys.argv[1:]], environment)
