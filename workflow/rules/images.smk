rule images:
    input:
        **GRAPH.inputs("images"),
    output:
        **GRAPH.shard_files("images"),
    log:
        f"logs/{STUDY}/images/{{shard}}.log",
    benchmark:
        f"logs/{STUDY}/images/{{shard}}.tsv"
    conda:
        ENVIRONMENT
    params:
        job=kept_job,
        local=lambda wildcards: GRAPH.local,
        spool=f".instar/spool/{STUDY}/{{shard}}",
        flags=GRAPH.flags("images", without=("source", "shards")),
    shell:
        "{params.job} --scratch {params.spool:q} --log {log:q} -- instar images"
        " --records {input.records:q} --local {params.local:q} --mirror_root {input.source:q} --spool {params.spool:q}"
        " --out {output.images:q} --out_tar {output.images_tar:q} --shard {wildcards.shard:q} {params.flags}"
