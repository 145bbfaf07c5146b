"""Tests of instar.reid.scores and instar.reid.photographs."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from instar.reid import scores as module
from instar.reid.photographs import Known, Photographs, comparable
from instar.reid.scores import Rules, best, centroid, nearest, similarities, softmax, unit, with_flips

NONE = -np.inf


def photographs(rows: list[tuple[str, str, str, str | None]]) -> Photographs:
    return Photographs.of(
        pd.DataFrame(rows, columns=["photo_key", "dataset", "encounter", "orientation"], dtype=object)
    )


def directions(*degrees: float) -> np.ndarray:
    """Unit vectors of a plane."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def cosines(*degrees: float) -> Any:
    return pytest.approx(np.cos(np.radians(degrees)), abs=1e-6)


#: a shows its left and its right, b its right alone, c is of another data set.
GALLERY = photographs(
    [("1", "L", "a1", "left"), ("2", "L", "a2", "right"), ("3", "L", "b1", "right"), ("4", "S", "c1", "left")]
)
VECTORS = directions(0, 60, 90, 0)
KNOWN = Known.of(["a", "a", "b", "c"], ["L", "L", "L", "S"])


def scored(kind: str, degrees: float, query: tuple[str, str, str, str | None], rules: Rules, **more: Any) -> Any:
    method: Any = {"nearest": nearest, "centroid": centroid}[kind]
    more = {"neighbours": 1, "weights": "equal"} | more if kind == "nearest" else more
    return method(directions(degrees), photographs([query]), VECTORS, GALLERY, KNOWN, rules=rules, **more)


def test_nothing() -> None:
    none, nobody = photographs([]), Known.of([], [])
    empty, rules = np.zeros((0, 2), np.float32), Rules()
    for queries, vectors in ((none, empty), (GALLERY, VECTORS)):
        nn = nearest(vectors, queries, empty, none, nobody, neighbours=1, weights="equal", rules=rules)
        assert nn.values.shape == centroid(vectors, queries, empty, none, nobody, rules=rules).values.shape
        assert nn.values.shape == (len(queries), 0)
        identity, score = best(nn.values, nobody)
        assert identity.tolist() == [""] * len(queries)
        assert (score == NONE).all()
        for _, fit, _ in similarities(vectors, queries, empty, none, nobody, rules=rules):
            assert fit.shape == (len(queries), 0)
    assert nearest(empty, none, VECTORS, GALLERY, KNOWN, neighbours=2, weights="equal", rules=rules).values.shape == (
        0,
        3,
    )
    assert centroid(empty, none, VECTORS, GALLERY, KNOWN, rules=rules).values.shape == (0, 3)
    assert softmax(np.zeros((0, 0)), none, KNOWN.identity, KNOWN.dataset, KNOWN).values.shape == (0, 3)
    assert unit(empty).shape == (0, 2)


def test_known_individuals_are_sorted_by_data_set_and_name() -> None:
    known = Known.of(["b", "a", "b", "a"], ["S", "S", "L", "S"])
    assert list(zip(known.dataset, known.identity, strict=True)) == [("L", "b"), ("S", "a"), ("S", "b")]
    assert known.column.tolist() == [2, 1, 0, 1]
    assert known.columns_of(["b", "b", "a", None], ["S", "L", "L", "S"]).tolist() == [2, 0, -1, -1]


def test_nearest_by_hand() -> None:
    free = Rules(orientation=False)
    found = scored("nearest", 30, ("q", "L", "q", None), free)
    assert found.values[0, :2].tolist() == cosines(30, 60)
    assert found.values[0, 2] == NONE  # of another data set
    assert found.values.dtype == np.float32
    assert not found.fallback.any()


def test_a_left_flank_is_no_right_flank() -> None:
    found = scored("nearest", 60, ("q", "L", "q", "left"), Rules())
    # a's right would be alike; of b there is no other, so it counts all the same and is told
    assert found.values[0, :2].tolist() == cosines(60, 30)
    assert found.fallback.tolist() == [[False, True, False]]
    mean = scored("centroid", 60, ("q", "L", "q", "left"), Rules())
    assert mean.values[0, :2].tolist() == cosines(60, 30)
    assert mean.fallback.tolist() == [[False, True, False]]


def test_centroid_by_hand() -> None:
    assert scored("centroid", 0, ("q", "L", "q", None), Rules()).values[0, :2].tolist() == cosines(30, 90)


@pytest.mark.parametrize("kind", ["nearest", "centroid"])
def test_the_query_itself_does_not_count(kind: str) -> None:
    itself = scored(kind, 0, ("1", "L", "a1", None), Rules())
    assert itself.values[0, :2].tolist() == cosines(60, 90)
    alone = scored(kind, 90, ("3", "L", "b1", None), Rules())
    assert alone.values[0, 1] == NONE
    other = ("5", "L", "a1", None)  # another photograph of the encounter a1
    assert scored(kind, 0, other, Rules()).values[0, 0] > np.cos(np.radians(31))
    assert scored(kind, 0, other, Rules(leave_out="encounter")).values[0, 0] == cosines(60)


def test_several_neighbours_by_hand() -> None:
    query, free = ("q", "L", "q", None), Rules(orientation=False)
    first, second = 1.0, 0.5
    for weights, expected in (("equal", (first + second) / 2), ("harmonic", (first + second / 2) / 1.5)):
        found = scored("nearest", 0, query, free, neighbours=2, weights=weights)
        assert found.values[0, 0] == pytest.approx(expected)
        assert found.values[0, 1] == cosines(90)  # has one photograph alone
    left = scored("nearest", 0, ("q", "L", "q", "left"), Rules(), neighbours=3)
    assert left.values[0, 0] == pytest.approx(1)


def test_refused() -> None:
    for wrong in ({"neighbours": 0}, {"weights": "none"}):
        with pytest.raises(ValueError, match="neighbours"):
            scored("nearest", 0, ("q", "L", "q", None), Rules(), **wrong)
    with pytest.raises(ValueError, match="leave_out = day"):
        comparable(GALLERY, GALLERY, leave_out="day")
    with pytest.raises(ValueError, match="not finite"):
        unit(np.array([[np.nan, 1]]))


def drawn(n: int, seed: int) -> tuple[Photographs, np.ndarray, list[str], list[str]]:
    rng = np.random.default_rng(seed)
    identity = [f"i{number}" for number in rng.integers(0, 12, n)]
    dataset = ["L" if int(name[1:]) % 3 else "S" for name in identity]
    names = [None, "left", "right", "top", "topleft"]
    rows = [
        (f"p{place // 2}", dataset[place], f"{identity[place]} {rng.integers(3)}", names[rng.integers(5)])
        for place in range(n)
    ]
    return photographs(rows), unit(rng.normal(size=(n, 6))), identity, dataset


def by_loop(kind: str, rules: Rules, queries: tuple, gallery: tuple, known: Known) -> tuple[np.ndarray, np.ndarray]:
    """Written out: one query and one individual after the other."""
    asked, vectors, there, others = *queries[:2], *gallery[:2]
    allowed = comparable(asked, there, leave_out=rules.leave_out)
    fit = allowed & module.fitting(asked, there) if rules.orientation else allowed
    values, fallback = np.full((len(asked), len(known)), NONE), np.zeros((len(asked), len(known)), bool)
    for q in range(len(asked)):
        for column in range(len(known)):
            own = known.column == column
            rows = fit[q] & own
            if not rows.any() and (allowed[q] & own).any():
                rows, fallback[q, column] = allowed[q] & own, True
            if rows.any():
                mean = others[rows].sum(axis=0)
                similarity = others[rows] @ vectors[q]
                values[q, column] = similarity.max() if kind == "nearest" else mean @ vectors[q] / np.linalg.norm(mean)
    return values, fallback


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("kind", ["nearest", "centroid"])
@pytest.mark.parametrize("rules", [Rules(), Rules("encounter"), Rules("photograph", orientation=False)])
def test_equal_to_a_loop_in_blocks_of_any_size(
    kind: str, rules: Rules, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small:
        monkeypatch.setattr(module, "CHUNK", 70)
        monkeypatch.setattr(module, "BLOCK_ROWS", 9)
    gallery = drawn(80, 0)
    known = Known.of(gallery[2], gallery[3])
    more: dict[str, Any] = {"neighbours": 1, "weights": "equal"} if kind == "nearest" else {}
    method: Any = {"nearest": nearest, "centroid": centroid}[kind]
    for queries in (drawn(15, 1), gallery):
        found = method(queries[1], queries[0], gallery[1], gallery[0], known, rules=rules, **more)
        values, fallback = by_loop(kind, rules, queries, gallery, known)
        np.testing.assert_allclose(found.values, values, atol=1e-5)
        assert np.array_equal(found.fallback, fallback)
        parts = list(similarities(queries[1], queries[0], gallery[1], gallery[0], known, rules=rules))
        assert sum(part.stop - part.start for part, _, _ in parts) == len(queries[0])
        whole = np.concatenate([whole for _, _, whole in parts])
        allowed = comparable(queries[0], gallery[0], leave_out=rules.leave_out)
        np.testing.assert_allclose(whole, np.where(allowed, queries[1] @ gallery[1].T, NONE), atol=1e-5)


def test_softmax_is_among_the_individuals_of_the_data_set() -> None:
    queries = photographs([("p", "L", "e", None), ("q", "S", "f", None), ("r", "T", "g", None)])
    logits = np.log(np.array([[1.0, 3, 100, 50], [1, 1, 2, 6], [1, 1, 1, 1]]))
    classes = np.array(["a", "b", "c", "z"], object)  # z is not in the gallery
    found = softmax(logits, queries, classes, np.array(["L", "L", "S", "S"], object), KNOWN)
    assert found.values.tolist() == [pytest.approx([0.25, 0.75, NONE]), [NONE, NONE, 1], [NONE] * 3]
    flat = softmax(
        logits[:1], queries.take(slice(1)), classes, np.array(["L"] * 2 + ["S"] * 2, object), KNOWN, temperature=2
    )
    assert flat.values[0, :2].tolist() == pytest.approx([1 / (1 + 3**0.5), 3**0.5 / (1 + 3**0.5)])
    unlearnt = softmax(logits[:1, :1], queries.take(slice(1)), classes[:1], np.array(["L"], object), KNOWN)
    assert unlearnt.values[0].tolist() == [1, NONE, NONE]


def test_best() -> None:
    identity, score = best(np.array([[0.1, 0.4, 0.4], [NONE, NONE, NONE]], np.float32), KNOWN)
    assert identity.tolist() == ["b", ""]
    assert score.tolist() == [pytest.approx(0.4), NONE]


def test_unit_and_flips() -> None:
    assert unit(np.array([[3.0, 4], [0, 0]])).tolist() == [pytest.approx([0.6, 0.8]), [0, 0]]
    assert with_flips(3 * directions(0), directions(90)) == pytest.approx(directions(45))
