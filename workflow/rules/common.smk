# What the rules share.
import json
import shlex
from pathlib import Path

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
    return shlex.join(["instar", "job", "--inputs", *input, "--outputs", *output])


def kept_job(wildcards, input, output):
    """The wrapper for one shard, whose outputs are kept in the store."""
    return job(wildcards, input, output) + f" --keep --of {len(GRAPH.params.shards)}"


def begin():
    try:
        _workflow.begin(GRAPH)
    except InputError as error:
        raise SystemExit(f"instar: {error}")
