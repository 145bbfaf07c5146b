rule detector:
    input:
        **GRAPH.inputs("detector"),
    output:
        **outputs("detector"),
    log:
        f"logs/{STUDY}/detector.log",
    benchmark:
        f"logs/{STUDY}/detector.tsv"
    conda:
        ENVIRONMENT
    threads: 16
    params:
        job=job,
        images=folder("images"),
        flags=GRAPH.flags("detector"),
    shell:
        "{params.job} --log {log:q} -- instar detector --annotations {input.annotations:q} --images {params.images:q}"
        " --out {output.detector:q} --out_metrics {output.metrics:q} --out_curve {output.detector_curves:q}"
        " --checkpoints .instar/training {params.flags}"
