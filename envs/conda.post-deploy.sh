#!/usr/bin/env bash
# Snakemake runs this from the project's root once it has made the environment of conda.yaml.
set -euo pipefail
uv pip sync --python "$CONDA_PREFIX/bin/python" envs/requirements.lock
uv pip install --python "$CONDA_PREFIX/bin/python" --no-deps --editable .
