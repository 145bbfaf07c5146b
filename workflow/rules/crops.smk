rule crops:
    input:
        **GRAPH.inputs("crops"),
    output:
        **GRAPH.shard_files("crops"),
    log:
        f"logs/{STUDY}/crops/{{shard}}.log",
    benchmark:
        f"logs/{STUDY}/crops/{{shard}}.tsv"
    conda:
        ENVIRONMENT
    threads: GRAPH.params.crops.workers
    params:
        job=kept_job,
        flags=GRAPH.flags("crops", without=("shards",)),
    shell:
        "{params.job} --log {log:q} -- instar crops --images {input.images:q} --images_tar {input.images_tar:q}"
        " --detections {input.detections:q} --out {output.crops:q} --out_tar {output.crops_tar:q} {params.flags}"
