# The classifier of params.yaml against variants of it: `snakemake ablations`. No part of `all`, and not DVC's.
localrules:
    ablations,


rule whole_photographs:
    input:
        images=GRAPH.inputs("detector")["images"],
        crops=ABLATED["crops"],
        dataset=ABLATED["dataset"],
        taxonomy=ABLATED["taxonomy"],
        annotations=ABLATED["annotations"],
        code=sorted(
            {
                *code("run", "whole"),
                *GRAPH.inputs("crops")["code"],
                "src/instar/detectors/whole_image.py",
            }
        ),
    output:
        photographs=directory(f"{ABLATIONS}/photographs"),
        metrics=f"{ABLATIONS}/photographs.json",
    log:
        f"logs/{STUDY}/ablations/whole_photographs.log",
    benchmark:
        f"logs/{STUDY}/ablations/whole_photographs.tsv"
    conda:
        ENVIRONMENT
    threads: GRAPH.params.crops.workers
    params:
        job=lambda wildcards, input, output: f"{job(wildcards, input, output)} --keep",
        images=folder("images"),
        crops=folder("crops"),
        flags=_dag.options({"seed": GRAPH.params.seed, **_SHARDS, **_BOXES})
        + " "
        + GRAPH.flags("crops", without=("shards", "confidence", "margin_percent")),
    shell:
        "{params.job} --log {log:q} -- instar whole_photographs --images {params.images:q} --crops {params.crops:q}"
        " --dataset {input.dataset:q} --taxonomy {input.taxonomy:q} --annotations {input.annotations:q}"
        " --out {output.photographs:q} --out_metrics {output.metrics:q} {params.flags}"


rule ablation:
    input:
        crops=ABLATED["crops"],
        dataset=ABLATED["dataset"],
        taxonomy=ABLATED["taxonomy"],
        annotations=ABLATED["annotations"],
        whole=whole,
        code=code("run"),
    output:
        f"{ABLATIONS}/{{variant}}/{{seed}}.parquet",
    log:
        f"logs/{STUDY}/ablations/{{variant}}_{{seed}}.log",
    benchmark:
        f"logs/{STUDY}/ablations/{{variant}}_{{seed}}.tsv"
    wildcard_constraints:
        variant="|".join(VARIANTS),
        seed="|".join(map(str, SEEDS)),
    conda:
        ENVIRONMENT
    threads: GRAPH.params.ablations.threads
    params:
        job=lambda wildcards, input, output: f"{job(wildcards, input, output)} --keep",
        flags=ablation_flags,
    shell:
        "{params.job} --log {log:q} -- instar ablation {params.flags} --taxonomy {input.taxonomy:q}"
        " --annotations {input.annotations:q} --out {output:q} --work .instar/ablations --threads {threads}"


rule ablations:
    input:
        answers=expand(
            f"{ABLATIONS}/{{variant}}/{{seed}}.parquet", variant=VARIANTS, seed=SEEDS
        ),
        dataset=ABLATED["dataset"],
        code=[
            "src/instar/ablations/names.py",
            "src/instar/ablations/table.py",
            "src/instar/metrics/bootstrap.py",
            "src/instar/splits.py",
        ],
    output:
        table=f"{ABLATIONS}/table.csv",
        text=f"{ABLATIONS}/table.md",
    log:
        f"logs/{STUDY}/ablations/table.log",
    benchmark:
        f"logs/{STUDY}/ablations/table.tsv"
    conda:
        ENVIRONMENT
    params:
        job=job,
        answers=lambda wildcards, output: str(Path(output.table).parent),
        flags=_dag.options(
            {
                "variants": list(VARIANTS),
                "seeds": SEEDS,
                "base": {
                    name: getattr(GRAPH.params, name)
                    for name in ("loss", "balance", "place")
                }
                | {"image_px": GRAPH.params.classifier.image_px},
                "resolutions": GRAPH.params.ablations.resolutions,
                "pair": GRAPH.params.ablations.pair,
                "rare_crops": GRAPH.params.ablations.rare_crops,
                "bootstrap": GRAPH.params.evaluation.bootstrap,
                "early_stop": int(GRAPH.params.classifier.keep != "last"),
                "seed": GRAPH.params.seed,
            }
        ),
    shell:
        "{params.job} --log {log:q} -- instar ablations --predictions {params.answers:q} --dataset {input.dataset:q}"
        " --out {output.table:q} --out_text {output.text:q} {params.flags} && cat {output.text:q}"
