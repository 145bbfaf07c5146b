"""Shards: a tar that any tool reads, and the place of each file in it."""

import tarfile
from pathlib import Path

import pytest

from instar.errors import InputError
from instar.shards import ShardReader, shard_of, writing


def test_a_file_reads_back_at_random_and_as_tar(tmp_path: Path) -> None:
    path = tmp_path / "s00.tar"
    with writing(path) as shard:
        first, second = shard.add("a.jpg", b"one"), shard.add("b.jpg", b"x" * 1000)
    with ShardReader(path) as reader:
        assert reader.read(second.offset, second.size) == b"x" * 1000
        assert reader.read(first.offset, first.size) == b"one"
    with tarfile.open(path) as tar:
        assert tar.getnames() == ["a.jpg", "b.jpg"]


def test_equal_content_gives_an_equal_tar(tmp_path: Path) -> None:
    for name in ("one.tar", "two.tar"):
        with writing(tmp_path / name) as shard:
            shard.add("a.jpg", b"one")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_an_empty_shard_is_a_tar(tmp_path: Path) -> None:
    with writing(tmp_path / "s00.tar"):
        pass
    with tarfile.open(tmp_path / "s00.tar") as tar:
        assert tar.getnames() == []


def test_a_failure_leaves_no_tar(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), writing(tmp_path / "s00.tar") as shard:
        shard.add("a.jpg", b"one")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_cut_tar_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s00.tar"
    with writing(path) as shard:
        member = shard.add("a.jpg", b"x" * 1000)
    path.write_bytes(path.read_bytes()[: member.offset + 10])
    with ShardReader(path) as reader, pytest.raises(InputError, match=r"s00\.tar: ends inside a file"):
        reader.read(member.offset, member.size)
    with pytest.raises(InputError, match="no such shard"):
        ShardReader(tmp_path / "s01.tar")


def test_the_shard_of_a_photograph_depends_on_its_key_alone() -> None:
    shards = ["a", "b", "c"]
    keys = [f"inaturalist-{number}" for number in range(3000)]
    counts = [[shard_of(key, shards) for key in keys].count(shard) for shard in shards]
    assert sum(counts) == 3000
    assert min(counts) > 900
    assert shard_of("inaturalist-1", shards) == shard_of("inaturalist-1", list(shards))
