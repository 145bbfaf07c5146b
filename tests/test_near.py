"""Tests of instar.dataset.near."""

import tracemalloc

import numpy as np
import pytest

from instar.dataset.near import Members, Neighbours, mix


def hashes(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


@pytest.mark.parametrize("bits", [0, 2, 7])
def test_nothing_has_no_neighbours(bits: int) -> None:
    for index, asked in ((hashes(), hashes(1)), (hashes(1), hashes()), (hashes(), hashes())):
        rows, places = Neighbours(index, bits).pairs(asked)
        assert len(rows) == len(places) == 0


def test_pairs_by_hand() -> None:
    index = Neighbours(hashes(0b1111, 0b0111 << 60, 0b1111), bits=2)
    rows, places = index.pairs(hashes(0b1111, 0b1100, 0b1000, 0b0100 << 60))
    assert sorted(zip(rows.tolist(), places.tolist(), strict=True)) == [(0, 0), (0, 2), (1, 0), (1, 2), (3, 1)]


@pytest.mark.parametrize("bits", [0, 1, 2, 3, 7])
def test_pairs_are_those_of_brute_force(bits: int) -> None:
    random = np.random.default_rng(bits)
    index = random.integers(0, 2**64, 300, np.uint64)
    asked = index[random.integers(0, 300, 500)]
    for _ in range(bits + 1):  # at most bits + 1 flipped, so that some lie just outside
        asked = asked ^ (np.uint64(1) << random.integers(0, 64, 500).astype(np.uint64))
    expected = np.argwhere(np.bitwise_count(asked[:, None] ^ index[None, :]) <= bits)
    rows, places = Neighbours(index, bits).pairs(asked)
    assert len(rows) == len(expected) > 0 or bits == 0
    assert sorted(zip(rows.tolist(), places.tolist(), strict=True)) == list(map(tuple, expected.tolist()))


@pytest.mark.parametrize("bits", [-1, 16])
def test_bits_out_of_range(bits: int) -> None:
    with pytest.raises(ValueError, match=f"bits = {bits} is not allowed"):
        Neighbours(hashes(1), bits)


def test_members() -> None:
    members = Members(hashes(9, 3, 9, 2**63))
    rows, places = members.places(hashes(1, 2**63, 3, 4, 3))
    assert rows.tolist() == [1, 2, 4]
    assert members.values[places].tolist() == [2**63, 3, 3]
    rows, places = Members(hashes()).places(hashes(0, 1))
    assert len(rows) == len(places) == 0


def test_mix_is_one_to_one_and_spreads() -> None:
    mixed = mix(np.arange(1 << 16, dtype=np.uint64))
    assert len(np.unique(mixed)) == 1 << 16
    counts = np.bincount((mixed >> np.uint64(60)).astype(int))
    assert counts.min() > 3800  # 4096 in each sixteenth on average


def test_pairs_by_chance_take_little_memory() -> None:
    random = np.random.default_rng(0)
    index, asked = (random.integers(0, 2**64, count, np.uint64) for count in (20_000, 20_000))
    neighbours = Neighbours(index, 7)
    tracemalloc.start()
    neighbours.pairs(asked)  # 1.5 million pairs agree in each of eight bands
    neighbours.pairs(np.repeat(asked, 4))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 90e6
    rows, places = neighbours.pairs(index)
    assert (rows == places).sum() == 20_000
