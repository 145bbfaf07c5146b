# What the rules share.
import json
import shlex
from pathlib import Path

from snakemake.exceptions import WorkflowError

SHARDS = frozenset(GRAPH.params.shards)
FOLDERS = {stage.outs[0] for stage in GRAPH.stages.values() if stage.scatter}
FOLDERS |= {
    path
    for stage in GRAPH.stages.values()
    for paths in stage.named.values()
    for path in paths
}
ENVIRONMENT = f"{workflow.basedir}/envs/conda.yaml"


def outputs(stage):
    """The outputs of a stage that is one job; those without a suffix are folders."""
    named = GRAPH.outputs(stage).items()
    return {
        name: path if Path(path).suffix else directory(path) for name, path in named
    }


def folder(name):
    """The folder of an input that is many files, as a parameter."""
    return lambda wildcards, input: str(Path(input[name][0]).parent)


def job(wildcards, input, output):
    """The wrapper that every command runs in: outputs appear whole or not at all (src/instar/store.py)."""
    inputs = [word for paths in dict(input.items()).values() for word in words(paths)]
    return shlex.join(["instar", "job", "--inputs", *inputs, "--outputs", *output])


def words(paths):
    """An input as words of a command: many files of a folder as the folder, since a command holds 2 MB at most."""
    paths = [paths] if isinstance(paths, str) else list(paths)
    for folder in FOLDERS:
        if len(paths) > 1 and all(Path(path).is_relative_to(folder) for path in paths):
            return [folder]
    return paths


def kept_job(wildcards, input, output):
    """The wrapper for one shard, whose outputs are kept in the store."""
    if wildcards.shard not in SHARDS:
        raise WorkflowError(f"{wildcards.shard}: no shard of params.yaml")
    return job(wildcards, input, output) + f" --keep --of {len(GRAPH.params.shards)}"


def begin():
    try:
        _workflow.begin(GRAPH)
    except InputError as error:
        raise SystemExit(f"instar: {error}")
