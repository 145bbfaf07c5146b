# What the rules of the ablations share: the variants of the classifier, and what each reads.
from instar.ablations.variants import seeds, settings, variants

VARIANTS = variants(GRAPH.params)
SEEDS = seeds(GRAPH.params)
ABLATIONS = f"{DATA}/ablations"
ABLATED = GRAPH.inputs("classifier") | GRAPH.inputs("evaluation")
_SHARDS = {"shards": GRAPH.params.shards}
_BOXES = {"photo_boxes": GRAPH.params.evaluation.photo_boxes}


def code(*modules):
    """Source that a command depends on, the stages' that it runs included."""
    own = [f"src/instar/ablations/{module}.py" for module in ("__init__", *modules)]
    stages = (GRAPH.inputs(stage)["code"] for stage in ("classifier", "evaluation"))
    return sorted({*own, *(path for paths in stages for path in paths)})


def whole(wildcards):
    """The whole photographs, where the variant is shown them."""
    return (
        f"{ABLATIONS}/photographs"
        if VARIANTS[wildcards.variant].view == "photograph"
        else []
    )


def ablation_flags(wildcards):
    variant = VARIANTS[wildcards.variant]
    given = GRAPH.values("classifier")
    given = settings(GRAPH.params, variant, int(wildcards.seed), given)
    crops, dataset = f"{DATA}/crops", f"{DATA}/dataset.parquet"
    if variant.view == "photograph":
        crops, dataset = (
            f"{ABLATIONS}/photographs/crops",
            f"{ABLATIONS}/photographs/dataset.parquet",
        )
    own = {"view": variant.view, "seed": GRAPH.params.seed, "classifier": given}
    return _dag.options(
        {"crops": crops, "dataset": dataset, **own, **_SHARDS, **_BOXES}
    )
