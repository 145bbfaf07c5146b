rule classifier:
    input:
        **GRAPH.inputs("classifier"),
    output:
        **outputs("classifier"),
    log:
        f"logs/{STUDY}/classifier.log",
    benchmark:
        f"logs/{STUDY}/classifier.tsv"
    conda:
        ENVIRONMENT
    threads: 16
    params:
        job=job,
        crops=folder("crops"),
        flags=GRAPH.flags("classifier"),
    shell:
        "{params.job} --log {log:q} -- instar classifier --crops {params.crops:q} --dataset {input.dataset:q} --out {output.classifier:q}"
        " --out_metrics {output.metrics:q} --out_curves {output.classifier_curves:q} --work .instar/classifier {params.flags}"
