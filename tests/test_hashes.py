"""Hashes of text by the column, the sieve and the count that are made of them."""

import numpy as np
import pyarrow as pa
import pytest

from instar.records.hashes import Distinct, Sieve, hashes

MASK = (1 << 64) - 1


def slowly(text: str) -> int:
    """The same hash, one text at a time with Python's integers."""
    data = text.encode()
    found = len(data) * 0x9E3779B97F4A7C15 & MASK
    for start in range(0, len(data), 8):
        found = (found ^ int.from_bytes(data[start : start + 8], "little")) * 0x9E3779B97F4A7C15 & MASK
        found ^= found >> 32
    found = (found ^ (found >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    found = (found ^ (found >> 27)) * 0x94D049BB133111EB & MASK
    return found ^ (found >> 31)


TEXTS = ["", "a", "12345678", "123456789", "ÿß", "b" * 100, "526ababd-aff2-4ce8-b111-d8013b9d8b42", "a"]


def test_hashes() -> None:
    assert hashes(pa.array([], pa.string())).tolist() == []
    assert hashes(pa.array(TEXTS)).tolist() == [slowly(text) for text in TEXTS]
    # a slice starts in the middle of its buffers, and a null is an empty text
    assert hashes(pa.array(["x", None, *TEXTS]).slice(1, 4)).tolist() == [slowly(text) for text in ["", *TEXTS[:3]]]


def test_hashes_hardly_collide() -> None:
    numbers = hashes(pa.array(map(str, range(200_000))))
    assert len(np.unique(numbers)) == 200_000
    shares = [np.bincount(numbers >> np.uint64(56)).std(), np.bincount(numbers & np.uint64(255)).std()]
    assert shares == pytest.approx([np.sqrt(200_000 / 256)] * 2, rel=0.2)  # as of a binomial distribution


def test_the_sieve_holds_what_was_put_in_and_little_else() -> None:
    sieve = Sieve()
    asked = hashes(pa.array(map(str, range(100_000))))
    assert not sieve.may_hold(asked).any()
    sieve.add(asked[:1000])
    sieve.add(asked[1000:2000])
    found = sieve.may_hold(asked)
    assert found[:2000].all()
    assert found[2000:].sum() <= 1


def test_distinct() -> None:
    distinct = Distinct()
    assert len(distinct) == 0
    distinct.add(pa.chunked_array([["a", "b"], ["a", None]], pa.string()))
    distinct.add(pa.chunked_array([["c", "a"]]))
    assert len(distinct) == 3
