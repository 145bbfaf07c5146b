"""Writing whole files and folders or none."""

from pathlib import Path

import pytest

from instar.files import replacing, sha256_of, write_json


def test_the_old_file_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
        assert (path / "old").exists()
    assert [entry.name for entry in path.iterdir()] == ["new"]


def test_json_holds_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "metrics.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_folders_hash_tells_names_and_contents(tmp_path: Path) -> None:
    hashes = set()
    for name, text in [("a", "1"), ("b", "1"), ("a", "2")]:
        folder = tmp_path / f"{name}{text}"
        folder.mkdir()
        (folder / name).write_text(text)
        hashes.add(sha256_of(folder))
    assert len(hashes) == 3
    (tmp_path / "empty").mkdir()
    assert sha256_of(tmp_path / "empty") not in hashes
