rule report:
    input:
        **GRAPH.inputs("report"),
    output:
        **outputs("report"),
    log:
        f"logs/{STUDY}/report.log",
    benchmark:
        f"logs/{STUDY}/report.tsv"
    conda:
        ENVIRONMENT
    params:
        job=job,
        images=folder("images"),
        detections=folder("detections"),
        crops=folder("crops"),
        metrics=folder("metrics"),
        plots=folder("plots"),
        flags=GRAPH.flags("report"),
    shell:
        "{params.job} --log {log:q} -- instar report --records {input.records:q} --taxonomy {input.taxonomy:q} --annotations {input.annotations:q} --images {params.images:q}"
        " --detections {params.detections:q} --crops {params.crops:q} --metrics {params.metrics:q}"
        " --plots {params.plots:q} --params {input.params:q} --out {output.report:q} {params.flags}"
