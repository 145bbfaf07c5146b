"""Drawn individuals: their files, that a pattern is one individual's and one side's, and equal bytes everywhere."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from test_individuals_records import HEADER, counts, individuals, records

from instar.errors import InputError
from instar.files import sha256_of
from instar.records.individuals.picture import Shot, animal_of, draw
from instar.records.individuals.spec import PATTERNS, load_individuals
from instar.records.individuals.world import draw_individuals, plan_individuals
from instar.tables import NEW_INDIVIDUAL

TINY = Path(__file__).parent / "world/individuals.yaml"
SMALL = Path(__file__).parents[1] / "workflow/conf/world/individuals.yaml"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_no_individuals(tmp_path: Path) -> None:
    nothing = (tmp_path / "nothing.yaml").write_text(
        TINY.read_text()
        .replace("individuals: 6", "individuals: 0")
        .replace("seen_once: 1", "seen_once: 0")
        .replace("new: 2", "new: 0")
    )
    assert nothing
    draw_individuals(tmp_path / "nothing.yaml", tmp_path / "out", seed=0)
    assert rows(tmp_path / "out/metadata.csv") == rows(tmp_path / "out/sample_submission.csv") == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("width: 96", "width: 9", r"width, height: 9 × 72 is below 32 pixels"),
        ("width: 96", "width: wide", r"width: Value 'wide' of type 'str'"),
        ("days: 700", "days: 0", "days: 0"),
        ('first_day: "2018-04-01"', "first_day: spring", "first_day: 'spring' is no day"),
        ("pattern: spots", "pattern: stripes", "lynx: pattern 'stripes' is none of spots, scales, blotches"),
        ("orientations: [top]", "orientations: [below]", r"salamander: orientations \['below'\] are none of top, left"),
        ("TurtleDrawn", "LynxDrawn", "species: two have the dataset of another"),
        ("undated: 0.05", "undated: 5", "undated: 5.0 is no share"),
        ("blur: 5.0", "", "blur"),
    ],
)
def test_a_wrong_description(tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = tmp_path / "world.yaml"
    path.write_text(TINY.read_text().replace(old, new))
    with pytest.raises(InputError, match=problem) as told:
        load_individuals(path)
    assert "\n" not in str(told.value)
    with pytest.raises(InputError, match="no such file"):
        load_individuals(tmp_path / "none.yaml")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("individuals") / "drawn"
    draw_individuals(TINY, out, seed=0, processes=1)
    return out


def test_the_files_of_a_competition(drawn: Path) -> None:
    table = rows(drawn / "metadata.csv")
    assert list(table[0]) == [*HEADER, "licence"]
    assert {row["licence"] for row in table} == {"cc0"}
    assert [row["image_id"] for row in table] == [str(i) for i in range(len(table))]
    assert all((drawn / row["path"]).is_file() for row in table)
    assert len(list((drawn / "images").rglob("*.jpg"))) == len(table)
    queries = [row for row in table if row["split"] == "query"]
    assert all(row["identity"] == "" for row in queries)
    assert all(row["identity"] for row in table if row["split"] == "database")
    asked, solution = rows(drawn / "sample_submission.csv"), rows(drawn / "truth/solution.csv")
    assert [row["image_id"] for row in asked] == [row["image_id"] for row in queries]
    assert [row["image_id"] for row in solution] == [row["image_id"] for row in queries]
    known = {row["identity"] for row in table} - {""}
    for row in solution:
        assert (row["identity"] == NEW_INDIVIDUAL) == (row["individual"] not in known)
        assert row["identity"] in (NEW_INDIVIDUAL, row["individual"])
    assert {row["dataset"] for row in queries} == {"LynxDrawn", "TurtleDrawn", "SalamanderDrawn"}
    per_identity = Counter(row["identity"] for row in table if row["identity"])
    assert len(per_identity) == 18
    assert sum(count == 1 for count in per_identity.values()) >= 3
    first = cv2.imread(str(drawn / table[0]["path"]))
    assert first is not None and first.shape == (72, 96, 3)


def test_no_encounter_is_in_the_database_and_among_the_queries() -> None:
    photos = plan_individuals(load_individuals(SMALL), 0)
    parts: dict[tuple[str, str], set[str]] = {}
    for one in photos:
        parts.setdefault((one.shot.individual, one.shot.encounter), set()).add(one.part)
    assert all(len(kinds) == 1 for kinds in parts.values())
    new = {one.shot.individual for one in photos if one.is_new}
    assert len(new) == 12
    assert all(one.part == "query" for one in photos if one.shot.individual in new)
    known_queries = {one.shot.individual for one in photos if one.part == "query"} - new
    assert known_queries <= {one.shot.individual for one in photos if one.part == "database"}
    assert len(known_queries) >= 9


def test_as_many_are_seen_once_as_the_description_says() -> None:
    world = load_individuals(SMALL)
    for one in world.species:
        one.encounters, one.photographs, one.queried = [2, 2], [1, 1], 1.0
    for species in world.species:
        photos = [photo for photo in plan_individuals(world, 0) if photo.species is species]
        database = Counter(photo.shot.individual for photo in photos if photo.part == "database")
        queried = {photo.shot.individual for photo in photos if photo.part == "query"}
        once = [name for name, count in database.items() if count == 1]
        assert (len(database), len(once)) == (10, 1)
        assert not queried & set(once)


def test_equal_bytes_in_any_process(tmp_path: Path) -> None:
    lines = TINY.read_text().replace("individuals: 6", "individuals: 2").splitlines()
    path = tmp_path / "lynx.yaml"
    path.write_text("\n".join(line for line in lines if "Turtle" not in line and "Salamander" not in line))
    for name, seed, processes in (("one", 0, 1), ("two", 0, 2), ("other", 1, 1)):
        draw_individuals(path, tmp_path / name, seed=seed, processes=processes)
    assert sha256_of(tmp_path / "one") == sha256_of(tmp_path / "two")
    assert sha256_of(tmp_path / "one") != sha256_of(tmp_path / "other")


def coat_of(pattern: str, side: str, individual: str) -> np.ndarray:
    """Pixels of the animal, int64, zero around it; a right side mirrored, so that it lies on the left one."""
    canvas = animal_of(Shot(pattern, individual, side, "a@1", 0, 96, 72, 0.0, 0), 160)
    pixels = np.where(canvas.mask[..., None] > 127, canvas.pixels, 0).astype(int)
    return pixels[:, ::-1] if side == "right" else pixels


def unlike(one: np.ndarray, other: np.ndarray) -> float:
    """Share of the animal's pixels that differ clearly."""
    seen = (one.sum(2) > 0) | (other.sum(2) > 0)
    return float((np.abs(one - other).max(2) > 25)[seen].mean())


@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_a_pattern_is_one_individuals(pattern: str) -> None:
    side = PATTERNS[pattern][0]
    assert unlike(coat_of(pattern, side, "a"), coat_of(pattern, side, "a")) == 0
    assert unlike(coat_of(pattern, side, "a"), coat_of(pattern, side, "b")) > 0.08


@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_a_left_side_is_no_mirrored_right_side(pattern: str) -> None:
    left, right = coat_of(pattern, "left", "a"), coat_of(pattern, "right", "a")
    # the silhouettes are the same, so that only the pattern tells
    assert np.array_equal(left.sum(2) > 0, right.sum(2) > 0)
    assert unlike(left, right) > 0.08


def test_two_photographs_of_an_encounter_differ() -> None:
    pictures = [draw(Shot("spots", "a", "left", "a@1", number, 96, 72, 5.0, 0)) for number in range(2)]
    assert np.abs(pictures[0].astype(int) - pictures[1]).mean() > 5


def test_drawn_individuals_are_records(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"licences": ["cc0"], "shards": ["s00"]}
    outputs = records(TINY, tmp_path, **changes)
    told = individuals(outputs)
    table = rows(tmp_path / "source/metadata.csv")
    assert [one["image_id"] for one in told] == [row["image_id"] for row in table]
    found = counts(outputs)
    assert outputs.json("metrics.json")["rows"]["dropped"] == {}
    assert found["identities"] == 18
    assert found["submission"]["asked"] == found["parts"]["query"] > 0
    assert set(found["orientations"]) == {"left", "right", "top"}
    assert set(found["dates"]) <= {"iso", "missing"}
