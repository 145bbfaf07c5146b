# The DAG stands in dvc.yaml; each rule takes its inputs, outputs and parameters from there and adds what DVC lacks:
# scatter over shards, commands, logs, benchmarks, and what a job needs of a cluster.
import sys

sys.path.insert(0, "src")
from instar import dag as _dag
from instar import workflow as _workflow
from instar.errors import InputError

_workflow.prefer_own_tools()
try:
    GRAPH = _dag.read(look=workflow.is_main_process)
except InputError as error:
    raise SystemExit(f"instar: {error}")

STUDY = GRAPH.params.study
DATA = GRAPH.data


include: "workflow/rules/common.smk"


if workflow.is_main_process:
    _workflow.settle()


onstart:
    begin()


onsuccess:
    _workflow.tell_dropped(GRAPH)


onerror:
    _workflow.tell_errors(GRAPH)


wildcard_constraints:
    # a list of thousands of names here would be copied for each of their jobs; kept_job refuses other names
    shard="[A-Za-z0-9_-]+",
    stage="|".join(GRAPH.stages),


localrules:
    all,
    records,
    tally,
    report,


rule all:
    default_target: True
    input:
        [path for stage in GRAPH.stages for path in GRAPH.targets(stage)],


include: "workflow/rules/records.smk"
include: "workflow/rules/images.smk"
include: "workflow/rules/detector.smk"
include: "workflow/rules/detections.smk"
include: "workflow/rules/crops.smk"


if GRAPH.params.labels:

    include: "workflow/rules/dataset.smk"
    include: "workflow/rules/classifier.smk"
    include: "workflow/rules/evaluation.smk"


if GRAPH.params.labels == ["species"]:

    include: "workflow/rules/ablations_inputs.smk"
    include: "workflow/rules/ablations.smk"


include: "workflow/rules/report.smk"
include: "workflow/rules/stages.smk"
