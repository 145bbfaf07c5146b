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
        local_weights=lambda wildcards: GRAPH.params.evaluation.local_weights,
        flags=GRAPH.flags("evaluation", without=("local_weights", "other", "synonyms")),
    shell:
        "{params.job} --log {log:q} -- instar evaluation --classifier {input.classifier:q} --crops {params.crops:q}"
        " --dataset {input.dataset:q} --taxonomy {input.taxonomy:q} --annotations {input.annotations:q} --barcodes {input.barcodes:q} --found {input.found:q}"
        " --individuals {input.individuals:q} --local_weights {params.local_weights:q} --other {input.other:q} --synonyms {input.synonyms:q}"
        " --out {output.predictions:q} --out_photographs {output.photographs:q} --out_metrics {output.metrics:q}"
        " --out_classes {output.classes:q} --out_confusion {output.confusion_genus:q} --out_accuracy {output.accuracy:q}"
        " --out_groups {output.groups:q} --out_reliability {output.reliability:q} --out_rollup {output.rollup:q}"
        " --out_identifiers {output.identifiers:q} --out_taxa {output.taxa:q} --out_abundance {output.abundance:q}"
        " --out_submission {output.submission:q} --out_gallery {output.gallery:q} --out_openset {output.openset:q}"
        " --out_cmc {output.cmc:q} --out_individuals {output.individuals:q}"
        " --out_matches {output.matches:q} {params.flags}"
