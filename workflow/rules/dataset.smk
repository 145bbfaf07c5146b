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
        detections=folder("detections"),
        specimens=lambda wildcards: GRAPH.params.dataset.specimens,
        flags=GRAPH.flags("dataset", without=("decisions", "earlier", "specimens")),
    shell:
        "{params.job} --log {log:q} -- instar dataset --crops {params.crops:q} --taxonomy {input.taxonomy:q}"
        " --annotations {input.annotations:q} --detections {params.detections:q}"
        " --individuals {input.individuals:q} --decisions {input.decisions:q} --earlier {input.earlier:q}"
        " --specimens {params.specimens:q} --out {output.dataset:q} --out_held_out {output.held_out:q} --out_specimens {output.specimen_crops:q}"
        " --out_metrics {output.metrics:q} --out_examples {output.examples:q} --out_found {output.found:q} {params.flags}"
