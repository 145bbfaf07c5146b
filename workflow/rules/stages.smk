# What became of the rows of a scattered stage, and one target for each stage, for `instar run STAGE` and for people.
rule tally:
    input:
        rows=lambda wildcards: GRAPH.targets(wildcards.stage)[:-1],
        code="src/instar/tally.py",
    output:
        f"{DATA}/metrics/{{stage}}.json",
    log:
        f"logs/{STUDY}/{{stage}}/tally.log",
    wildcard_constraints:
        stage="|".join(stage.name for stage in GRAPH.stages.values() if stage.scatter),
    conda:
        ENVIRONMENT
    params:
        job=job,
        folder=folder("rows"),
        shards=shlex.join([f"--shards={json.dumps(GRAPH.params.shards)}"]),
    shell:
        "{params.job} --log {log:q} -- instar tally --folder {params.folder:q} --out {output:q} {params.shards}"


for _stage in GRAPH.stages:

    rule:
        name:
            f"stage_{_stage}"
        input:
            GRAPH.targets(_stage),
        localrule: True
