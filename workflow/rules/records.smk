rule records:
    input:
        **GRAPH.inputs("records"),
    output:
        **outputs("records"),
    log:
        f"logs/{STUDY}/records.log",
    benchmark:
        f"logs/{STUDY}/records.tsv"
    conda:
        ENVIRONMENT
    params:
        job=job,
        source=lambda wildcards: GRAPH.params.records.source,
        flags=GRAPH.flags("records", without=("source", "partition")),
    shell:
        "{params.job} --log {log:q} -- instar records --source {params.source:q} --partition {input.partition:q} --out_source {output.source:q}"
        " --out_records {output.records:q} --out_dropped {output.records_dropped:q}"
        " --out_taxonomy {output.taxonomy:q} --out_annotations {output.annotations:q}"
        " --out_barcodes {output.barcodes:q} --out_specimens {output.specimens:q} --out_outlines {output.outlines:q}"
        " --out_individuals {output.individuals:q} --out_metrics {output.metrics:q} {params.flags}"
