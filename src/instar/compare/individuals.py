"""Train several presets of classifiers on a study's individuals, judge each, and all of them together."""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from omegaconf import OmegaConf

from instar.ablations.run import one_process
from instar.classifier.stage import NO_WEIGHTS, classifier
from instar.compare.ensemble import fused_figures
from instar.compare.identity_table import columns, identity_row, table_text, together_row
from instar.compare.reuse import key_of, once
from instar.compared import CLASSIFIERS, FOLDER, identified_by, keep
from instar.errors import InputError
from instar.evaluation.individuals import individuals
from instar.evaluation.ways import Settings
from instar.files import md5_of, remove, replacing, sha256_of, write_csv, write_json
from instar.params import Params, load
from instar.study import compose, names

#: Keys outside the section classifier that say how a classifier is trained.
SWEPT = ("loss", "balance", "place", "beta", "max_weight")
LIBRARIES = ["lightning", "opencv-python-headless", "scikit-learn", "timm", "torch"]
#: The table of epochs, as the report of AnimalCLEF25 has it.
EPOCHS = ("epoch", "train_loss", "validation_loss", "validation_accuracy", "learning_rate")
#: Folder of what all of them make together.
TOGETHER = "all_together"


def compare_individuals(presets: list[str], overrides: list[str], out: Path | None, *, ensemble: bool) -> str:
    """Train presets of the classifier on the study's individuals and compare what they answer.

    Args:
        presets: their names; ``name,key=value,…`` changes keys of one of them.
        overrides: of keys of the section classifier, or of ``SWEPT``, for all of them, in Hydra's grammar.
        out: folder to write; ``data/<study>/comparison`` if None.
        ensemble: also fuse the scores of all of them, calibrated on validation, and judge that.

    Returns:
        The comparison as a Markdown table.

    Raises:
        InputError: if a preset is unknown, an override is wrong or of another section, the study is not one of
            individuals, an ensemble is of one preset, or an input is missing.
    """
    params = load()
    if params.labels != ["identity"]:
        told = ", ".join(params.labels) or "none"
        raise InputError(
            f"study {params.study} has labels = {told}, and individuals are compared in one of identity; "
            "write its parameters with 'instar study individuals'"
        )
    chosen = {name: _with_preset(params, name, overrides) for name in dict.fromkeys(presets)}
    if params.study not in names("study"):
        told = "classifiers are as their presets say, without what a preset of study changes; see --set"
        print(f"study {params.study} stands under a name of its own: {told}", file=sys.stderr)
    if ensemble and len(chosen) < 2:
        raise InputError(f"--ensemble of {', '.join(chosen) or 'nothing'} alone; name two presets or more")
    study = Path("data") / params.study
    out = out or study / "comparison"
    rows = [_row(name, given, study, out / _folder(name)) for name, given in chosen.items()]
    if ensemble:
        rows.append(_together(list(chosen), rows, params, study, out))
    _write(out, rows, params)
    if out == study / "comparison":  # the report shows it
        of = identified_by(md5_of(study / "dataset.parquet"), params.seed, asdict(params.evaluation))
        keep(study / "plots" / FOLDER / CLASSIFIERS, "preset", rows, of)
    return (out / "comparison.md").read_text(encoding="utf-8")


def _folder(name: str) -> str:
    return quote(name, safe=",=+")  # a value may be a path


def _with_preset(params: Params, name: str, overrides: list[str]) -> Params:
    """The parameters in params.yaml with the classifier as the study, a preset and overrides make it, checked.

    A study of one's own changes no preset.
    """
    preset, *own = name.split(",")
    if preset not in names("classifier"):
        raise InputError(f"{preset}: no such preset; workflow/conf/classifier has {', '.join(names('classifier'))}")
    for override in (*overrides, *own):
        key = override.lstrip("+~").partition("=")[0]
        if key not in SWEPT and not key.startswith("classifier."):
            allowed = f"only keys that begin with 'classifier.' and {', '.join(SWEPT)} can be set here"
            raise InputError(f"{override}: {allowed}; the others stand in params.yaml")
    kept = [f"{key}={getattr(params, key)}" for key in SWEPT]
    words = [f"classifier={preset}", "labels=[identity]", *kept, *overrides, *own]
    # the preset that changes no key of the section classifier
    base = params.study if params.study in names("study") else "individuals"
    composed: Any = OmegaConf.create(compose(base, words))
    changed: Any = {key: composed[key] for key in (*SWEPT, "classifier")}
    found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(params), changed))
    assert isinstance(found, Params)
    return found


def _row(name: str, params: Params, study: Path, out: Path) -> dict[str, Any]:
    """Train and judge one preset, or take what was found before."""
    print(f"{name}: {params.classifier.model} at {params.classifier.image_px} px", file=sys.stderr)
    key = _trained(params, study, out / "training")
    judged = [key, asdict(params.evaluation), params.seed]
    inputs = [study / "individuals.parquet"]
    inputs += [Path(params.evaluation.local_weights)] if params.evaluation.local == "lightglue" else []
    with once(out, key_of(judged, inputs, LIBRARIES)) as due:
        if due:
            _judge(params, study, out)
    training = _json(out / "training/classifier.json")
    write_csv(out / "epochs.csv", EPOCHS, ([row[column] for column in EPOCHS] for row in training["table"]))
    description = _json(out / "training/classifier/classifier.json")
    return identity_row(
        name,
        _json(out / "evaluation.json"),
        training,
        seconds=_json(out / "training/seconds.json"),
        keep=params.classifier.keep,
        model=description["model"],
        folder=_folder(name),
    )


def _trained(params: Params, study: Path, out: Path) -> str:
    """Train where that is due; the key of all that the training depends on.

    It does not depend on how it is judged, which takes minutes where training takes hours.
    """
    own = one_process(asdict(params.classifier))
    swept: dict[str, Any] = {name: getattr(params, name) for name in (*SWEPT, "seed")}
    weights = Path(own["weights"])
    inputs = [study / "dataset.parquet", *(study / "crops" / f"{shard}.parquet" for shard in params.shards)]
    told = [own, swept, sha256_of(weights) if weights.is_file() and weights.name != NO_WEIGHTS else None]
    key = key_of(told, inputs, LIBRARIES)
    with once(out, key) as due:
        if due:
            remove(out.with_name("key"))  # what it answered before, too, is to be judged anew
            work = out / "work"
            resumed = any(path.is_dir() for path in work.glob("unfinished/*"))
            import instar.classifier.fit  # noqa: F401, its libraries load before the clock starts

            start = time.monotonic()
            classifier(
                study / "crops",
                study / "dataset.parquet",
                out / "classifier",
                out / "classifier.json",
                out / "curves",
                work,
                **swept,
                **own,
            )
            # what an interrupted training had taken before is not known
            write_json(out / "seconds.json", None if resumed else round(time.monotonic() - start, 1))
    return key


def _judge(params: Params, study: Path, out: Path) -> None:
    """Run the stage evaluation of individuals, which keeps its scores, too."""
    given = params.evaluation
    made = study / "crops", study / "dataset.parquet", study / "individuals.parquet"
    written = ("predictions.parquet", "submission.csv", "gallery", "evaluation.json", "openset.csv", "cmc.csv")
    individuals(
        out / "training/classifier",
        *made,
        *(out / name for name in (*written, "individuals.csv", "matches.csv")),
        seed=params.seed,
        bootstrap=given.bootstrap,
        settings=Settings.of(asdict(given)),
        answer_by=given.answer_by,
        threshold_by=given.threshold_by,
        out_scores=out / "scores.npz",
    )


def _together(presets: list[str], rows: list[dict[str, Any]], params: Params, study: Path, out: Path) -> dict[str, Any]:
    """The row of all presets' scores as one; it takes seconds, so it is made anew each time."""
    figures = fused_figures(
        {name: out / _folder(name) / "scores.npz" for name in presets},
        study / "dataset.parquet",
        study / "individuals.parquet",
        out / TOGETHER / "submission.csv",
        seed=params.seed,
        bootstrap=params.evaluation.bootstrap,
        threshold_by=params.evaluation.threshold_by,
    )
    write_json(out / TOGETHER / "evaluation.json", figures)
    return together_row(presets, rows, figures)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(out: Path, rows: list[dict[str, Any]], params: Params) -> None:
    from instar.compare.detectors import device

    facts = {"study": params.study, "device": device(), "answer_by": params.evaluation.answer_by}
    write_json(out / "comparison.json", {**facts, "presets": rows})
    header, lines = columns(rows)
    write_csv(out / "comparison.csv", header, lines)
    with replacing(out / "comparison.md") as temporary:
        temporary.write_text(table_text(rows, facts), encoding="utf-8")
