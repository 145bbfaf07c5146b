"""The comparison of classifiers of individuals: one tiny study, two presets and both together, each trained once."""

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from individuals_study import photograph
from project import ROOT
from test_individuals_dataset import run

from instar.compare import individuals as module
from instar.compare.command import compare
from instar.compare.ensemble import fused_figures
from instar.compare.identity_table import columns, identity_row, table_text, together_row
from instar.compared import CLASSIFIERS, FOLDER, current, identified_by, keep
from instar.errors import InputError
from instar.evaluation.judging import Parts
from instar.evaluation.scored import read_scores, write_scores
from instar.evaluation.ways import Single
from instar.files import md5_of
from instar.params import load
from instar.reid.fusion import calibration
from instar.reid.photographs import Known
from instar.reid.scores import Scores
from instar.report.individuals import classifiers
from instar.report.inputs import Inputs
from instar.study import compose
from instar.tables import IDENTITY_DATASET, NEW_INDIVIDUAL, read_table, write_table

SMALL = ["classifier.epochs=2", "classifier.batch=8", "classifier.image_px=16", "classifier.pretrained=false"]
SMALL += ["classifier.workers=0", "classifier.frozen_epochs=0", "classifier.cache_features=false"]
OTHER = "test_resnet,loss=arcface,classifier.embedding=4,classifier.scale=8"
COMMON = ["shards=[a]", "evaluation.bootstrap=100", "evaluation.local=none"]
DATA = "data/individuals_drawn"


def individual(n: int, number: int, day: int | None) -> dict[str, Any]:
    """Photograph ``number`` of the ``n``-th: a stripe at a height of its own, in noise; a query without a day."""
    noise = np.random.default_rng(number).integers(0, 250, (24, 24, 3))
    noise[3 * n : 3 * n + 2] += 130
    noise = (noise / 1.5).astype(np.uint8)
    if day is None:
        return photograph(number, None, part="query", submission_row=n, submission_rows=2, picture=noise)
    return photograph(number, f"t{n}", f"2020-01-0{day + 1}", picture=noise)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder with a data set of eight individuals, three of them new, and a query of each."""
    root = tmp_path_factory.mktemp("compare_individuals")
    (root / "workflow").symlink_to(ROOT / "workflow")
    shown = [individual(n, 10 * n + day, day) for n in range(8) for day in range(7)]
    asked = [individual(n, 100 + n, None) for n in range(2)]
    data = root / DATA
    run(data, [*shown, *asked], split_by="open_set", new_share=0.4, held_out_share=0.4)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        (root / "params.yaml").write_text(compose("individuals_drawn", [*COMMON, "evaluation.answer_by=nearest"]))
    return root


@pytest.fixture(autouse=True)
def in_study(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)


def compared(*words: str) -> Any:
    assert compare(["individuals", "test_resnet", OTHER, *words, "--set", *SMALL]) == 0
    return json.loads(Path(DATA, "comparison/comparison.json").read_text())


def test_two_presets_and_both_together(capsys: pytest.CaptureFixture[str]) -> None:
    result = compared("--ensemble")
    told = capsys.readouterr()
    out = Path(DATA, "comparison")
    first, second, both = result["presets"]
    assert told.err.count("epoch 2/2,") == 2
    assert (out / "comparison.md").read_text() in told.out
    assert (first["preset"], second["preset"]) == ("test_resnet", OTHER)
    assert second["parameters"] < first["parameters"] + 200  # an embedding of 4 and a head of it
    for row in (first, second):
        judged = json.loads((out / row["folder"] / "evaluation.json").read_text())
        assert row["score"] == judged["ways"]["nearest"]["score"]["value"]
        assert row["map"] == judged["ways"]["nearest"]["reid"]["map"]["value"]
        assert row["datasets"]["turtles"]["baks"] == judged["ways"]["nearest"]["datasets"]["turtles"]["baks"]
        with (out / row["folder"] / "epochs.csv").open() as file:
            epochs = list(csv.DictReader(file))
        assert [line["epoch"] for line in epochs] == ["1", "2"]
        assert (row["epoch"], f"{row['train_loss']}") == (2, epochs[1]["train_loss"])  # keep: last
        assert row["seconds"] > 0
    assert both["parameters"] == first["parameters"] + second["parameters"]
    with (out / "comparison.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["source"] for line in lines] == ["here"] * 3 + ["published"] * 3
    assert float(lines[2]["score"]) == both["score"] and lines[5]["score"] == "0.71389"
    check_by_hand(out, both)
    # a second call trains nothing, and says the same
    again = compared("--ensemble")
    assert "epoch" not in capsys.readouterr().err
    assert again == result
    made = identified_by(md5_of(Path(DATA, "dataset.parquet")), 0, asdict(load().evaluation))
    kept, stale = current(Path(DATA, "plots", FOLDER, CLASSIFIERS), "preset", made)
    assert kept == [{**row, "made_of": made} for row in result["presets"]] and not stale
    # nor does another way to judge
    Path("params.yaml").write_text(compose("individuals_drawn", [*COMMON, "evaluation.answer_by=softmax"]))
    other = compared()
    assert "epoch" not in capsys.readouterr().err
    judged = json.loads((out / "test_resnet/evaluation.json").read_text())
    assert judged["answer_by"] == "softmax" and len(other["presets"]) == 2
    assert other["presets"][0]["score"] == judged["ways"]["softmax"]["score"]["value"]


def check_by_hand(out: Path, row: dict[str, Any]) -> None:
    """The ensemble from the scores that were kept, by loops."""
    table = {one["key"]: one for one in read_table(Path(DATA, "dataset.parquet"), IDENTITY_DATASET).to_pylist()}
    known = sorted({one["label"] for one in table.values() if one["split"] == "train"})
    files = [dict(np.load(out / name / "scores.npz")) for name in ("test_resnet", OTHER)]
    keys = {split: files[0][f"{split}/key"].tolist() for split in ("validation", "test", "query")}
    mean: dict[str, np.ndarray] = {split: np.zeros((len(keys[split]), 1)) for split in keys}
    for file in files:
        for way in ("softmax", "nearest", "centroid"):
            pairs = [
                (score, table[key]["label"] == name)
                for key, scores in zip(keys["validation"], file[f"validation/{way}"], strict=True)
                for name, score in zip(known, scores, strict=True)
            ]
            # a candidate that was not learnt has no softmax; here all known ones were
            probability = calibration(*(np.array(each) for each in zip(*pairs, strict=True)))
            for split in ("validation", "test"):
                mean[split] = mean[split] + probability(file[f"{split}/{way}"]) / 6
    assert 0 < len(known) < 8

    def judged(split: str, threshold: float) -> tuple[float, float]:
        right: dict[tuple[bool, str], list[bool]] = {}
        for key, scores in zip(keys[split], mean[split], strict=True):
            own = table[key]
            answer = known[scores.argmax()] if scores.max() >= threshold else NEW_INDIVIDUAL
            wanted = NEW_INDIVIDUAL if own["is_new"] else own["label"]
            right.setdefault((own["is_new"], own["label"]), []).append(answer == wanted)
        both = [[np.mean(each) for (is_new, _), each in right.items() if is_new == new] for new in (False, True)]
        return tuple(float(np.mean(each)) for each in both)  # type: ignore[return-value]

    found = row["datasets"]["turtles"]
    highest = max(np.sqrt(np.prod(judged("validation", scores.max()))) for scores in mean["validation"])
    assert np.sqrt(np.prod(judged("validation", found["threshold"]))) == pytest.approx(highest)
    assert judged("test", found["threshold"]) == pytest.approx((row["baks"], row["baus"]), abs=1e-5)
    first = [
        (scores > scores[known.index(table[key]["label"])]).sum() == 0
        for key, scores in zip(keys["test"], mean["test"], strict=True)
        if not table[key]["is_new"]
    ]
    assert row["rank_1"] == pytest.approx(np.mean(first), abs=1e-5)
    with (out / "all_together/submission.csv").open() as file_:
        answers = [(line["image_id"], line["identity"]) for line in csv.DictReader(file_)]
    assert [image_id for image_id, _ in answers] == ["100", "101"]
    assert {answer for _, answer in answers} <= {*(f"t{n}" for n in range(8)), NEW_INDIVIDUAL}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["config0"], "config0: no such preset; workflow/conf/classifier has config1, config2, "),
        (["config1,seed=1"], r"seed=1: only keys that begin with 'classifier\.' and loss, balance, place"),
        (["config1", "--set", "dataset.split_by=time"], r"dataset\.split_by=time: only keys"),
        (["config1,classifier.epochs=0"], r"classifier\.epochs = 0 is not allowed"),
        (["config1,classifier.epohcs=1"], r"classifier\.epohcs"),
        (["config1", "config1", "--ensemble"], "--ensemble of config1 alone; name two presets or more"),
    ],
)
def test_what_is_wrong_is_named(words: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        compare(["individuals", *words])


def test_a_study_of_species_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_text(compose("demo", []))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match="study demo has labels = species, and individuals are compared in one of iden"
    ):
        compare(["individuals", "config1"])


def test_a_study_under_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = compose("individuals_drawn", ["study=mine", "evaluation.neighbours=3"])
    (tmp_path / "params.yaml").write_text(given)
    found = module._with_preset(load(tmp_path / "params.yaml"), "config1", ["classifier.flip=none"])
    assert (found.study, found.loss, found.evaluation.neighbours) == ("mine", "flat", 3)
    config1 = yaml.safe_load(compose("individuals", ["classifier.flip=none"]))
    assert asdict(found.classifier) == config1["classifier"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")
    with pytest.raises(InputError, match="--ensemble of config1 alone"):
        compare(["individuals", "config1", "--ensemble"])
    assert "study mine stands under a name of its own: classifiers are as their presets say" in capsys.readouterr().err


def test_a_variant_has_a_folder_below() -> None:
    assert module._folder("config1") == "config1"
    assert module._folder("a,classifier.weights=../b") == "a,classifier.weights=..%2Fb"


def parts() -> Parts:
    return Parts.of(read_table(Path(DATA, "dataset.parquet"), IDENTITY_DATASET).to_pandas())


def single(of: Parts, split: str) -> Single:
    gallery = of.galleries[split]
    known = Known.of(of.rows["label"].iloc[gallery], of.rows["dataset"].iloc[gallery])
    values = np.random.default_rng(0).random((len(of.part[split]), len(known)), np.float32)
    found = {"nearest": Scores(values, values > 0.5), "softmax": Scores(values - 1, values > 0.5)}
    return Single(of.part[split], gallery, known, found)


def test_scores_are_kept(tmp_path: Path) -> None:
    own = parts()
    given = {split: single(own, split) for split in own.galleries}
    write_scores(tmp_path / "scores.npz", own, given)
    found = read_scores(tmp_path / "scores.npz", own)
    assert list(found) == ["validation", "test", "query"]
    for split, one in given.items():
        assert list(found[split].found) == ["nearest", "softmax"]
        for way, scores in one.found.items():
            np.testing.assert_array_equal(found[split].found[way].values, scores.values)
            np.testing.assert_array_equal(found[split].found[way].fallback, scores.fallback)
        np.testing.assert_array_equal(found[split].known.identity, one.known.identity)


def test_scores_of_others_and_none(tmp_path: Path) -> None:
    path, own = tmp_path / "scores.npz", parts()
    with pytest.raises(InputError, match=r"scores\.npz: not a table of scores"):
        read_scores(path, own)
    path.write_bytes(b"PK cut short")
    with pytest.raises(InputError, match=r"scores\.npz: not a table of scores"):
        read_scores(path, own)
    write_scores(path, own, {"query": single(own, "query")})
    with pytest.raises(InputError, match="scores of other photographs than those of validation"):
        read_scores(path, own)


def test_the_ensemble_takes_the_names_that_a_review_gave(tmp_path: Path) -> None:
    table = read_table(Path(DATA, "dataset.parquet"), IDENTITY_DATASET).to_pylist()
    for row in table:
        if row["image_id"] == "100":
            row.update(split="train", label="t0", rank="individual", is_new=False)
    write_table(tmp_path / "dataset.parquet", table, IDENTITY_DATASET)
    own = Parts.of(read_table(tmp_path / "dataset.parquet", IDENTITY_DATASET).to_pandas())
    write_scores(tmp_path / "scores.npz", own, {split: single(own, split) for split in own.galleries})
    paths = {"a": tmp_path / "scores.npz"}, tmp_path / "dataset.parquet", Path(DATA, "individuals.parquet")
    found = fused_figures(*paths, tmp_path / "s.csv", seed=0, bootstrap=10, threshold_by="all")
    assert (tmp_path / "s.csv").read_text().splitlines()[1] == "100,t0"
    assert (found["submission"]["asked"], found["submission"]["without_crop"]) == (2, 0)


# the table

FIGURE = {"value": 0.5, "low": 0.25, "high": 0.75}
WAY = {"score": FIGURE, "baks": FIGURE, "baus": FIGURE, "reid": {"rank_1": FIGURE, "map": None}}
METRICS = {"ways": {"fused": {**WAY, "datasets": {"lynx": {"score": FIGURE, "baks": FIGURE, "baus": FIGURE}}}}}
METRICS |= {"answer_by": "fused", "split": "test", "simulated_new": ["turtles"], "crosswise": False}  # type: ignore[dict-item]
METRICS |= {"judged_chose_epoch": True}  # type: ignore[dict-item]
TABLE = [
    {"epoch": n, "train_loss": n / 8, "validation_loss": n / 4, "validation_accuracy": n / 16, "learning_rate": 1e-4}
    for n in (1, 2, 3)
]
TRAINING = {"epochs": 3, "best_epoch": 2, "parameters": 1234, "table": TABLE}


def row(name: str = "a", *, keep: str = "best_both", seconds: float | None = 60.0, **more: Any) -> dict[str, Any]:
    training = {**TRAINING, **more}
    return identity_row(name, METRICS, training, seconds=seconds, keep=keep, model="m", folder=name)


def test_the_kept_epoch() -> None:
    assert (row()["epoch"], row()["validation_loss"]) == (2, 0.5)
    assert row(keep="last")["epoch"] == 3
    alone = identity_row(
        "a",
        METRICS,
        {k: v for k, v in TRAINING.items() if k != "best_epoch"},
        seconds=1,
        keep="best_both",
        model="m",
        folder="a",
    )
    assert alone["epoch"] == 3  # without validation


def test_together_by_hand() -> None:
    both = together_row(
        ["a", "b"],
        [row(), row("b")],
        {"figures": METRICS["ways"]["fused"], "split": "test", "simulated_new": ["turtles"], "crosswise": False},
    )
    assert (both["parameters"], both["seconds"], both["epoch"], both["members"]) == (2468, 120.0, None, ["a", "b"])
    unknown = together_row(
        ["a", "b"],
        [row(), row("b", seconds=None)],
        {"figures": METRICS["ways"]["fused"], "split": "test", "simulated_new": ["turtles"], "crosswise": False},
    )
    assert unknown["seconds"] is None


def test_table_by_hand() -> None:
    facts = {"study": "individuals", "device": "CPU", "answer_by": "fused"}
    better = {**row("b", seconds=None), "score": 0.625}
    text = table_text([row(), better], facts)
    lines = text.splitlines()
    assert "each photograph stood in as new a second time" in lines[0] and "chose the epochs" in lines[0]
    cells = "b | 0.625 (0.250–0.750) | 0.500 (0.250–0.750) | 0.500 (0.250–0.750) | 0.500 (0.250–0.750) | – | 2"
    assert lines[4] == f"| {cells} | 0.2500 | 0.5000 | 0.1250 | 1,234 | – | [3](b/epochs.csv) |"
    assert lines[5].endswith("| 60.0 | [3](a/epochs.csv) |")
    assert lines[6].startswith("| published report, eight configurations | 0.44326 | – |")
    assert lines[-1] == "| a | lynx | 0.500 (0.250–0.750) | 0.500 (0.250–0.750) | 0.500 (0.250–0.750) |"
    header, found = columns([row()])
    assert {len(line) for line in found} == {len(header)}
    assert dict(zip(header, found[0], strict=True))["baus lynx"] == 0.5


# the report


def shown(folder: Path, dataset_md5: str) -> tuple[list[Any], list[str]]:
    none = pd.DataFrame()
    metrics = {"evaluation": {"dataset_md5": dataset_md5}}
    return classifiers(Inputs(load(ROOT / "params.yaml"), metrics, {}, none, none, none, none, folder, False))


def test_the_report_shows_what_was_made_of_the_same(tmp_path: Path) -> None:
    assert shown(tmp_path, "1f") == ([], ["Other classifiers beside this one: instar compare individuals."])
    params = load(ROOT / "params.yaml")
    of = identified_by("1f", params.seed, asdict(params.evaluation))
    figures = {"figures": METRICS["ways"]["fused"], "split": "test", "simulated_new": ["turtles"], "crosswise": False}
    rows = [row(), {**row("b"), "score": 0.625}]
    keep(tmp_path / FOLDER / CLASSIFIERS, "preset", [together_row(["a", "b"], rows, figures), *rows], of)
    tables, missing = shown(tmp_path, "1f")
    assert missing == []
    names = [line[0] for line in tables[0].lines]
    assert names == ["b", "a", "all together (a, b)"]
    half = "50\N{NO-BREAK SPACE}% (25–75\N{NO-BREAK SPACE}%)"
    assert tables[0].lines[1] == ["a", *[half] * 4, "–", "2", "0.2500", "0.5000", "0.1250", "1,234"]
    assert {len(line) for line in tables[0].lines} == {len(tables[0].columns)}
    tables, missing = shown(tmp_path, "2f")
    assert not tables and missing[0].endswith("since data or settings are others now: all together, a, b.")
