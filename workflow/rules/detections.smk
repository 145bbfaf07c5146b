rule detections:
    input:
        **GRAPH.inputs("detections"),
    output:
        **GRAPH.shard_files("detections"),
    log:
        f"logs/{STUDY}/detections/{{shard}}.log",
    benchmark:
        f"logs/{STUDY}/detections/{{shard}}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    params:
        job=kept_job,
        flags=GRAPH.flags("detections", without=("shards",)),
    shell:
        "{params.job} --log {log:q} -- instar detections --detector {input.detector:q} --images {input.images:q}"
        " --images_tar {input.images_tar:q} --out {output.detections:q} {params.flags}"


rule detection_metrics:
    input:
        **GRAPH.inputs("detection_metrics"),
    output:
        **outputs("detection_metrics"),
    log:
        f"logs/{STUDY}/detection_metrics.log",
    benchmark:
        f"logs/{STUDY}/detection_metrics.tsv"
    conda:
        ENVIRONMENT
    params:
        job=job,
        images=folder("images"),
        detections=folder("detections"),
        flags=GRAPH.flags("detection_metrics"),
    shell:
        "{params.job} --log {log:q} -- instar detection_metrics --annotations {input.annotations:q} --detector {input.detector:q}"
        " --detections {params.detections:q}"
        " --images {params.images:q} --taxonomy {input.taxonomy:q} --specimens {input.specimens:q}"
        " --out {output.metrics:q} --out_curve {output.detection_pr:q} --out_mask_curves {output.mask_pr:q}"
        " --out_mask_areas {output.mask_areas:q} --out_sizes {output.detection_sizes:q} --out_counts {output.counts:q}"
        " --out_seams {output.seams:q} {params.flags}"
