"""`instar export`: the models of the study in params.yaml, to be handed over."""

import argparse
from pathlib import Path

_DESCRIPTION = """Write the study's detector and classifier into one folder, with ONNX, labels, a model card (README.md)
and the table of all photographs that they learnt from (attribution.csv). 'instar identify --model FOLDER' takes it as
it is. The folder appears whole or not at all; one from an earlier export is replaced. Nothing is written if
Snakemake would run something of the study up to its figures, since the settings are those of params.yaml, if the
figures belong to another classifier, or if ONNX and torch differ by 1e-4 or more on crops of the study."""


def export(words: list[str]) -> int:
    """Read the words of ``instar export`` and write the folder."""
    parser = argparse.ArgumentParser(prog="instar export", description=_DESCRIPTION)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="to write")
    parser.add_argument("--no-onnx", action="store_true", help="leave the ONNX file out")
    options = parser.parse_args(words)
    from instar import dag, params, workflow
    from instar.export.folder import write_folder

    study = params.load()
    if dag.DVC_YAML.is_file():  # else there is nothing that says how the data were made
        workflow.check_made(dag.read(), "stage_evaluation", "stage_detection_metrics")
    write_folder(Path("data") / study.study, study, options.out, onnx=not options.no_onnx)
    print(f"{options.out}: written; read its README.md, then instar identify --model {options.out} PHOTO")
    return 0
