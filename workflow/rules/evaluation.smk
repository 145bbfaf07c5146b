rule evaluation:
    input:
        **GRAPH.inputs("evaluation"),
    output:
        **outputs("evaluation"),
    log:
        f"logs/{STUDY}/evaluation.log",
    benchmark:
        f"logs/{STUDY}/evaluation.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    params:
        job=job,
        crops=folder("crops"),
        flags=GRAPH.flags("evaluation"),
    shell:
        "{params.job} --log {log:q} -- instar evaluation --classifier {input.classifier:q} --crops {params.crops:q}"
        " --dataset {input.dataset:q} --out {output.predictions:q} --out_metrics {output.metrics:q}"
        " --out_classes {output.classes:q} --out_confusion {output.confusion_genus:q} {params.flags}"
