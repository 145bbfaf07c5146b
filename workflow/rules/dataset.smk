rule dataset:
    input:
        **GRAPH.inputs("dataset"),
    output:
        **outputs("dataset"),
    log:
        f"logs/{STUDY}/dataset.log",
    benchmark:
        f"logs/{STUDY}/dataset.tsv"
    conda:
        ENVIRONMENT
    params:
        job=job,
        crops=folder("crops"),
        flags=GRAPH.flags("dataset", without=("decisions", "earlier")),
    shell:
        "{params.job} --log {log:q} -- instar dataset --crops {params.crops:q} --taxonomy {input.taxonomy:q}"
        " --decisions {input.decisions:q} --earlier {input.earlier:q}"
        " --out {output.dataset:q} --out_held_out {output.held_out:q} --out_metrics {output.metrics:q} --out_examples {output.examples:q} {params.flags}"
