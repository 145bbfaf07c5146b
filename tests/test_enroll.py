"""Tests of instar.enroll, of instar identify with a gallery, and of instar.reid.answering."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from known_study import QUERIES, STUDY, save, write_study
from project import ROOT

from instar.detectors import Boxes
from instar.enroll.command import enroll, start_gallery
from instar.enroll.folder import counted, read_photographs
from instar.errors import InputError
from instar.files import sha256_of
from instar.identify.command import identify
from instar.identify.embedded import NOTHING, _best, embedded, load_network
from instar.identify.inputs import read_all
from instar.params import load
from instar.reid.answering import Answering, named, read_answering
from instar.reid.fusion import Calibration
from instar.reid.gallery import GALLERY, Gallery, Parts, Source, grow_gallery, open_gallery
from instar.tables import IDENTITY_PREDICTIONS, NEW_INDIVIDUAL, read_table

OWN = Path("data") / STUDY / "gallery"
GROWN = Path("galleries") / STUDY


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def root(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the study, and with three photographs of an individual that it does not know."""
    for name in ("data", "photographs"):
        (tmp_path / name).symlink_to(study / name)
    shutil.copyfile(study / "params.yaml", tmp_path / "params.yaml")
    for number in range(3):
        save(tmp_path / f"new/stranger/{number}.png", "stranger", 500 + number)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answered(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert identify([*words, "--json"]) == 0
    return {Path(row["photograph"]).stem: row for row in json.loads(capsys.readouterr().out)["photographs"]}


def contents(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in folder.iterdir()}


# how a gallery is asked


def gallery(*rows: tuple[str, str, list[float]]) -> Gallery:
    """Photographs with individual, data set and embedding."""
    told = [
        (f"k{n}", f"p{n}", name, dataset, None, None, f"e{n}", "0" * 64) for n, (name, dataset, _) in enumerate(rows)
    ]
    vectors = np.array([vector for *_, vector in rows], np.float32).reshape(-1, 2)
    return Gallery(Source("5" * 64, 32), pd.DataFrame(told, columns=GALLERY.names, dtype=object), Parts([vectors], 2))


def answering(**given: Any) -> Answering:
    straight = Calibration([-1.0, 1.0], [0.0, 1.0], pairs=9, same=3)
    values: dict[str, Any] = {"answer_by": "nearest", "neighbours": 1, "flips": False, "sides": True}
    values |= {"classes": {"a": "L"}, "calibrations": {"softmax": straight, "nearest": straight}}
    values |= {"thresholds": {"nearest": {"L": 0.7, "T": 0.9}, "fused": {"L": 0.5}}}
    return Answering(**{**values, **given})


def test_an_empty_gallery_knows_nobody() -> None:
    nobody = gallery()
    asked = answering()
    values = asked.values(np.ones((2, 2), np.float32), np.zeros((2, 1), np.float32), nobody, ["L"], None)
    assert values.shape == (2, 0)
    assert named(asked.answers(values, nobody, None), nobody) == [NEW_INDIVIDUAL] * 2


def test_each_candidate_against_the_threshold_of_its_data_set() -> None:
    known = gallery(("a", "L", [0.8, 0.6]), ("b", "T", [0.6, 0.8]), ("c", "X", [0.0, 1.0]))
    asked, one = answering(), np.array([[1, 0]], np.float32)
    nothing = np.zeros((1, 1), np.float32)
    values = asked.values(one, nothing, known, ["L", "T"], None)
    np.testing.assert_allclose(values, [[0.8, 0.6, -np.inf]], rtol=1e-6)
    assert named(asked.answers(values, known, None), known) == ["a"]  # 0.8 reaches 0.7
    # b is likelier, but T asks for 0.9; a is likely enough for L
    values = np.array([[0.75, 0.85, -np.inf]], np.float32)
    assert named(asked.answers(values, known, None), known) == ["a"]
    assert named(asked.answers(values, known, 0.8), known) == ["b"]
    assert named(asked.answers(values, known, 0.9), known) == [NEW_INDIVIDUAL]
    # of a data set that was never judged: the mean of the others
    assert asked.threshold("X") == pytest.approx(0.8)
    assert answering(answer_by="softmax").threshold("L") == np.inf
    # local features made the threshold of fused scores higher than a gallery's scores can be
    both = {"fused": {"L": 0.5}, "fused without local": {"L": 0.2}}
    assert answering(answer_by="fused", thresholds=both).threshold("L") == 0.2
    assert answering(answer_by="fused").threshold("L") == 0.5


def test_who_was_enrolled_later_is_fused_without_softmax() -> None:
    known = gallery(("a", "L", [0.8, 0.6]), ("b", "L", [0.6, 0.8]))
    values = answering(answer_by="fused").values(
        np.array([[1, 0]], np.float32), np.zeros((1, 1), np.float32), known, ["L"], None
    )
    # a: softmax among one is 1 and means 1, similarity 0.8 means 0.9; b: 0.6 means 0.8
    np.testing.assert_allclose(values, [[0.95, 0.8]], atol=1e-6)
    assert answering(answer_by="local").way == "nearest"


def test_the_best_animal_of_those_that_are_large_enough() -> None:
    def best(*rows: tuple[float, float, float]) -> tuple[int | None, str | None]:
        """Of width, height and score."""
        boxes = np.array([(1, 1, 1 + width, 1 + height) for width, height, _ in rows], np.float32).reshape(-1, 4)
        return _best(Boxes(boxes, np.array([score for *_, score in rows], np.float32)), 10)

    assert best() == (None, "no animal found")
    assert best((9, 30, 0.9), (30, 9, 0.8)) == (None, "animal under 10 px")
    # the surest is too small; of the two next the larger
    assert best((9, 30, 0.9), (10, 10, 0.5), (10, 20, 0.5), (40, 40, 0.4)) == (2, None)


def test_a_photograph_that_the_network_says_nothing_of(root: Path) -> None:
    network = load_network(load())
    for each in network.models.predictor.network.parameters():
        each.data.zero_()
    paths = [Path("photographs/100.png"), Path("photographs/101.png")]
    found = list(embedded(network, read_all(paths, None, threads=1), flips=False))
    assert [(one.name, one.reason, len(one.embedding)) for one in found] == [(str(path), NOTHING, 0) for path in paths]


# the study's own gallery


def test_queries_are_answered_as_the_stage_answered_them(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = read_table(Path("data") / STUDY / "predictions.parquet", IDENTITY_PREDICTIONS).to_pylist()
    stage = {row["image_id"]: row for row in rows if row["split"] == "query"}
    assert stage.keys() == {str(number) for number in QUERIES}
    for dataset in ("turtles", "lynxes"):
        numbers = [str(number) for number, (_, told) in QUERIES.items() if told == dataset]
        found = answered(capsys, *(f"photographs/{number}.png" for number in numbers), "--dataset", dataset)
        for number in numbers:
            one, row = found[number], stage[number]
            assert (one["answer"], f"{one['match']}-0") == (row["answer"], row["match"])
            assert [each["identity"] for each in one["top"]] == row["top"]
            assert [each["score"] for each in one["top"]] == pytest.approx(row["top_score"], abs=1e-4)
    assert {row["answer"] for row in stage.values()} >= {NEW_INDIVIDUAL, "l2", "l3"}


def test_lines_and_csv(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "bad.jpg").write_bytes(b"no picture")
    words = ["photographs/102.png", "bad.jpg", "--top", "2"]
    assert identify(words) == 1
    told = capsys.readouterr()
    assert told.out.startswith("photographs/102.png: l2 (lynxes, ")
    assert "bad.jpg: not an image" in told.err and "1 of the photographs" in told.err
    assert identify([*words, "--csv"]) == 1
    first, second = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (first["answer"], first["dataset"], first["top_1"], first["x_max"]) == ("l2", "lynxes", "l2", "48.0")
    assert (second["problem"], second["answer"]) == ("not an image", "")


def test_scores_of_several_data_sets_are_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "the individuals of 2 data sets, whose scores by {} are each on a scale of its own"
    name = "name the right one with --dataset: lynxes, turtles"
    for way, more, told in (
        ("softmax", [], True),
        ("fused", [], True),
        ("nearest", [], False),
        ("fused", ["--dataset", "lynxes"], False),
    ):
        assert identify(["photographs/102.png", "--by", way, *more]) == 0
        said = capsys.readouterr().err
        assert (line.format(way) in said, name in said) == (told, told)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--dataset", "whales"], "--dataset whales: the gallery data.* has lynxes, turtles; name one"),
        (["--orientation", "sideways"], "--orientation sideways: is no side|no side"),
        (["--overlay", "drawn"], "--overlay is of studies of species"),
        (["--gallery", "nowhere"], "nowhere: no gallery"),
        (["--gallery", "nowhere"], "nowhere: no gallery at this path; 'instar enroll FOLDER --gallery nowhere' makes"),
    ],
)
def test_what_does_not_fit_is_told(root: Path, words: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        identify(["photographs/100.png", *words])
    assert "\n" not in str(caught.value)


def test_a_study_of_species_has_no_gallery(root: Path) -> None:
    shutil.copyfile(ROOT / "params.yaml", root / "params.yaml")
    with pytest.raises(InputError, match="--by is of a study of individuals"):
        identify(["photographs/100.png", "--by", "nearest"])
    with pytest.raises(InputError, match=r"labels = \[species\], and a gallery needs one of individuals"):
        enroll(["new"])


# a gallery that grows


def test_who_was_new_is_known_once_enrolled(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(OWN)
    words = ["photographs/101.png", "--dataset", "turtles"]
    assert answered(capsys, *words)["101"]["answer"] == NEW_INDIVIDUAL
    assert enroll(["new", "--dataset", "turtles"]) == 0
    assert f"{GROWN}: 3 photographs enrolled, of 1 new individuals, 0 known ones; 0 were not" in capsys.readouterr().out
    found = answered(capsys, *words, "--gallery", str(GROWN))["101"]
    assert (found["answer"], found["dataset"]) == ("stranger", "turtles")
    rows = open_gallery(GROWN).rows.iloc[-3:]
    assert found["match"] in set(rows["photo_key"])
    assert set(rows["sha256"]) == {sha256_of(path) for path in (root / "new/stranger").iterdir()}
    assert contents(OWN) == before
    assert answered(capsys, *words)["101"]["answer"] == NEW_INDIVIDUAL
    # the others are answered as before
    assert answered(capsys, "photographs/102.png", "--gallery", str(GROWN))["102"]["answer"] == "l2"


def test_what_is_there_and_what_is_bad_is_told_and_passed_over(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert enroll(["new", "--dataset", "turtles"]) == 0
    capsys.readouterr()
    shutil.copyfile("photographs/0.png", "new/stranger/old.png")  # of t1
    shutil.copyfile("new/stranger/0.png", "new/stranger/twice.png")
    (root / "new/stranger/bad.jpg").write_bytes(b"no picture")
    save(root / "new/t1/9.png", "t1", 900)
    (root / "new/stranger/notes.txt").write_text("seen from the left")
    (root / "new/stranger/.hidden").touch()
    assert enroll(["new", "--dataset", "turtles"]) == 1
    told = capsys.readouterr()
    passed = "1 files passed over, since their endings are of no photograph, such as new/stranger/notes.txt"
    assert passed in told.err and "photographs enrolled" not in told.err
    assert "photographs looked at: 2/2" in told.err
    assert "1 photographs enrolled, of 0 new individuals, 1 known ones; 6 were not" in told.out
    assert "4 not enrolled: enrolled already, such as new/stranger/0.png" in told.err
    assert "1 not enrolled: enrolled already as t1 of turtles, such as new/stranger/old.png" in told.err
    assert "1 not enrolled: not an image, such as new/stranger/bad.jpg" in told.err
    assert len(open_gallery(GROWN).rows) == len(open_gallery(OWN).rows) + 4


def test_a_photograph_of_several_individuals_is_there_as_each(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # as of a study with boxes: t1's first photograph shows t2, too
    start_gallery(GROWN, OWN)
    before = open_gallery(GROWN)
    sha = sha256_of(Path("photographs/0.png"))
    first = np.flatnonzero(before.rows["sha256"] == sha)
    second = before.rows.iloc[first].assign(key="other-0", identity="t2")
    grow_gallery(GROWN, before.source, second, before.embeddings[first])
    for name in ("t1", "t2"):
        (root / f"again/{name}").mkdir(parents=True)
        shutil.copyfile("photographs/0.png", f"again/{name}/0.png")
    assert enroll(["again", "--dataset", "turtles"]) == 0
    assert "2 not enrolled: enrolled already, such as again/t1/0.png" in capsys.readouterr().err
    (root / "again/t2").rename("again/t3")
    assert enroll(["again", "--dataset", "turtles"]) == 1
    told = "1 not enrolled: enrolled already as t1 of turtles and t2 of turtles, such as again/t3/0.png"
    assert told in capsys.readouterr().err


def test_a_table_tells_more(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["identity,path,dataset,date,orientation,species,split"]
    lines += ["w1,stranger/0.png,whales,2021-05-04 09:00:00,left,whale,database", "w1,stranger/1.png,whales,,,,"]
    lines += [",stranger/2.png,whales,,,,", "w1,none.png,whales,,,,", "w1,0.png,whales,,,,query"]
    (root / "new/metadata.csv").write_text("\n".join([*lines, ""]))
    told = r"0\.png: dataset whales: the gallery data.* has lynxes, turtles; .*--new-dataset"
    with pytest.raises(InputError, match=told):
        enroll(["new", "--gallery", "own/whales"])
    assert not Path("own").exists()
    assert enroll(["new", "--gallery", "own/whales", "--new-dataset"]) == 0
    said = capsys.readouterr()
    assert "own/whales: 2 photographs enrolled, of 1 new individuals, 0 known ones; 3 were not" in said.out
    assert "the data set whales is new to the gallery" in said.err
    first, second = open_gallery(Path("own/whales")).rows.iloc[-2:].to_dict("records")
    about = (first["identity"], first["dataset"], first["encounter"], first["orientation"], first["species"])
    assert about == ("w1", "whales", "w1 2021-05-04", "left", "whale")
    assert second["encounter"] == second["photo_key"] == f"enrolled-{second['sha256'][:32]}"
    assert identify(["photographs/101.png", "--gallery", "own/whales", "--dataset", "whales"]) == 0
    assert "whales has no threshold of its own" in capsys.readouterr().err


def test_only_a_side_that_nothing_may_show_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["identity,path,dataset,orientation", "w1,stranger/0.png,whales,left", "w1,stranger/1.png,whales,"]
    (root / "new/metadata.csv").write_text("\n".join([*lines, "s1,stranger/2.png,seals,left", ""]))
    assert enroll(["new", "--gallery", "own", "--new-dataset"]) == 0
    capsys.readouterr()
    none, words = "is told to show", ["photographs/101.png", "--gallery", "own", "--orientation"]
    for side, dataset, told in (
        ("Top-Left", "seals", None),
        ("top", "seals", f"no photograph of the gallery {none} top, but left; 1 of 1 may, by what they tell"),
        ("right", "whales", f"{none} right, but left; 1 of 2 may"),
        ("up", "turtles", f"{none} up, but no side that is told; 16 of 16 may"),
    ):
        assert identify([*words, side, "--dataset", dataset]) == 0
        said = capsys.readouterr().err
        assert told in said if told else none not in said
    with pytest.raises(InputError, match="right: all photographs of the gallery own show the opposite: left; name"):
        identify([*words, "right", "--dataset", "seals"])


def test_a_box_is_not_read_and_that_is_told(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", "stranger", number)
    # of 0 one row has a box, of 2 none has
    lines = ["identity,path,split,bbox", 'a,0.png,,"[0, 0, 24, 48]"', "b,0.png,,", 'c,1.png,,"[0, 0, 48, 48]"']
    lines += ["d,2.png,,", 'e,none.png,,"[0, 0, 9, 9]"', ',1.png,query,"[0, 0, 9, 9]"']
    (tmp_path / "metadata.csv").write_text("\n".join([*lines, ""]))
    taken, left = read_photographs(tmp_path, dataset="turtles", known=[])
    assert [one.identity for one in taken] == ["d"]
    assert counted(left) == [
        "1 not enrolled: a query, which names no individual, such as 1.png",
        "1 not enrolled: no such file, such as none.png",
        "3 not enrolled: the table has a bbox for its file, which enroll does not read; cut the individuals out, or "
        "remove the bbox, such as 0.png",
    ]


def test_the_data_set_must_be_told_where_there_are_several(root: Path) -> None:
    with pytest.raises(InputError, match=r"0\.png tells no data set, and the gallery has lynxes, turtles"):
        enroll(["new"])
    assert not GROWN.exists()
    taken, left = read_photographs(Path("new"), dataset=None, known={("t1", "turtles")})
    assert ({one.dataset for one in taken}, left) == ({"turtles"}, [])


def test_a_name_that_data_sets_share_is_the_individual_of_its_own(root: Path) -> None:
    # as records calls those of a name that stands in two data sets
    known = {("turtles/x", "turtles"), ("lynxes/x", "lynxes"), ("whales/y", "turtles"), ("z", "turtles")}
    lines = ["identity,path,dataset,date", "x,stranger/0.png,turtles,2021-05-04", "y,stranger/1.png,turtles,"]
    (root / "new/metadata.csv").write_text("\n".join([*lines, "z,stranger/2.png,,", ""]))
    taken, _ = read_photographs(Path("new"), dataset="lynxes", known=known)
    told = [(one.identity, one.dataset) for one in taken]
    assert told == [("turtles/x", "turtles"), ("y", "turtles"), ("z", "lynxes")]
    assert taken[0].encounter == "turtles/x 2021-05-04"


def test_a_new_data_set_must_be_said_to_be_new(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"--dataset turtels: the gallery data.* has lynxes, turtles; .*--new-dataset"):
        enroll(["new", "--dataset", "turtels"])
    assert not GROWN.exists()
    words = ["new", "--dataset", "whales", "--new-dataset"]
    assert enroll(words) == 0
    assert "the data set whales is new to the gallery" in capsys.readouterr().err
    assert enroll(words) == 0  # a run that is repeated
    assert "; 3 were not" in capsys.readouterr().out
    assert set(open_gallery(GROWN).rows["dataset"]) == {"lynxes", "turtles", "whales"}


def test_a_photograph_of_two_names_is_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("new/stranger")
    (root / "new/t2").mkdir()
    shutil.copyfile("photographs/0.png", "new/t2/0.png")  # of t1
    assert enroll(["new", "--dataset", "turtles"]) == 1
    told = capsys.readouterr()
    assert "1 not enrolled: enrolled already as t1 of turtles, such as new/t2/0.png" in told.err
    assert f"{GROWN}: 0 photographs enrolled" in told.out
    assert not GROWN.parent.exists()  # nothing is made of nothing
    (root / "new/metadata.csv").write_text("identity,path\nt1,t2/0.png\nt2,t2/0.png\n")
    assert enroll(["new", "--dataset", "turtles"]) == 1
    assert "2 not enrolled: listed twice, differently" in capsys.readouterr().err


def test_the_studys_own_gallery_is_never_changed(root: Path) -> None:
    before = contents(OWN)
    with pytest.raises(InputError, match="is the study's own, which is never changed"):
        enroll(["new", "--dataset", "turtles", "--gallery", str(OWN)])
    with pytest.raises(InputError, match="nowhere: no such folder"):
        enroll(["nowhere"])
    with pytest.raises(InputError, match=r"0\.png: is a file; name a folder with a folder for each individual in it"):
        enroll(["new/stranger/0.png"])
    (root / "other").mkdir()
    for other in ("other", "params.yaml"):
        with pytest.raises(InputError, match=f"{other}: no gallery, and something else is there; name a new path"):
            enroll(["new", "--dataset", "turtles", "--gallery", other])
    assert contents(OWN) == before


def test_a_gallery_of_another_classifier_is_refused(root: Path) -> None:
    start_gallery(GROWN, OWN)
    manifest = json.loads((GROWN / "gallery.json").read_text())
    (GROWN / "gallery.json").write_text(json.dumps({**manifest, "image_px": 64}))
    for call in (lambda: enroll(["new", "--dataset", "turtles"]), lambda: identify(["new", "--gallery", str(GROWN)])):
        with pytest.raises(InputError, match=r"gallery\.json: made by classifier \w{12} at 64 px, and the study's"):
            call()


def test_a_gallery_is_started_once(root: Path) -> None:
    start_gallery(GROWN, OWN)
    assert contents(GROWN) == contents(OWN)
    (GROWN / "mark").touch()
    start_gallery(GROWN, OWN)
    assert (GROWN / "mark").exists()


def test_answers_json_reads_as_it_was_written(root: Path) -> None:
    found = read_answering(OWN)
    assert (found.answer_by, found.flips, sorted(found.thresholds["fused"])) == ("fused", False, ["lynxes", "turtles"])
    assert found.told() == json.loads((OWN / "answers.json").read_text())
    start_gallery(GROWN, OWN)
    for damage, told in (("{}", "not what evaluation writes"), ("", "not what evaluation writes")):
        (GROWN / "answers.json").write_text(damage)
        with pytest.raises(InputError, match=told):
            read_answering(GROWN)
    (GROWN / "answers.json").unlink()
    with pytest.raises(InputError, match="no such file; run the stage evaluation"):
        read_answering(GROWN)
