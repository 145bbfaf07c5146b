#!/usr/bin/env bash
# Markdown for a pull request: how parameters and metrics differ from a revision. Needs no data, since metrics and plots
# stand in git. Usage: workflow/scripts/diff.sh [REVISION], by default origin/main.
set -euo pipefail
base=${1:-origin/main}
git rev-parse --quiet --verify "$base^{commit}" >/dev/null || { echo "diff.sh: $base: no such revision" >&2; exit 2; }
section() { # title, what to say when nothing differs, command
  local title=$1 none=$2 table
  shift 2
  # without a difference the Markdown is an empty table
  if [ "$("$@" --json "$base")" = "{}" ]; then table=$none; else table=$("$@" --md "$base"); fi
  printf '## %s against `%s`\n\n%s\n\n' "$title" "$base" "$table"
}
section Parameters "No parameter differs." dvc params diff
section Metrics "No metric differs." dvc metrics diff
