"""Archives that mean harm, and rows of archives that cannot be read."""

import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
from test_gbif import ANT, CORE, META, PHOTO, lines, read, write_archive

from instar.errors import InputError
from instar.records.darwin_core import BOMB_BYTES, META_BYTES

MIB = bytes(1 << 20)


def add_member(path: Path, name: str, mib: int) -> None:
    """So many MiB of zeros, packed to a thousandth."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w", force_zip64=True) as file:
        for _ in range(mib):
            file.write(MIB)


@pytest.mark.parametrize("name", ["multimedia.txt", "unused.txt"])
def test_a_zip_bomb_is_refused_before_it_is_read(tmp_path: Path, name: str) -> None:
    path = write_archive(tmp_path / "a.zip", [ANT], [PHOTO])
    if name == "multimedia.txt":
        path = tmp_path / "b.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("meta.xml", META)
            archive.writestr("occurrence.txt", lines(list(CORE), [ANT]))
    mib = (BOMB_BYTES >> 20) + 1
    add_member(path, name, mib)
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    with pytest.raises(
        InputError, match=rf"\.zip: would unpack to {mib << 20}\d* bytes, \d+ times its size|would unpack"
    ):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_a_large_member_that_hardly_packs_is_no_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instar.records.darwin_core.BOMB_BYTES", 1000)
    photos = [PHOTO | {"identifier": f"https://m.example/{number}.jpg"} for number in range(50)]
    assert read(write_archive(tmp_path / "a.zip", [ANT], photos)).found.num_rows == 50


def test_members_that_overlap_count_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # forty entries of the directory point at one packed member of 50 to 1
    monkeypatch.setattr("instar.records.darwin_core.BOMB_BYTES", 1 << 20)
    path = write_archive(tmp_path / "a.zip", [ANT], [PHOTO])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("same00.txt", b"".join(struct.pack("<Q", number * number) * 60 for number in range(1000)))
    with zipfile.ZipFile(path, "a") as archive:
        original = archive.getinfo("same00.txt")
        assert original.file_size < 190 * original.compress_size
        for number in range(1, 99):
            copy = zipfile.ZipInfo(f"same{number:02}.txt")
            for name in ("file_size", "compress_size", "CRC", "header_offset", "compress_type", "create_system"):
                setattr(copy, name, getattr(original, name))
            archive.filelist.append(copy)
            archive.NameToInfo[copy.filename] = copy
        archive._didModify = True  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="times its size, like a zip bomb"):
        read(path)


def test_a_member_that_is_larger_than_it_says(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta.xml", META)
        archive.writestr("occurrence.txt", lines(list(CORE), [ANT]))
    add_member(path, "multimedia.txt", 20)
    data = path.read_bytes()
    assert data.count(struct.pack("<I", 20 << 20)) == 2  # beside the member and in the directory
    path.write_bytes(data.replace(struct.pack("<I", 20 << 20), struct.pack("<I", 1000)))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"member multimedia.txt: .*Bad CRC-32"):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


# Arrow cannot hand over a row that has both a wrong number of fields and bytes that are not UTF-8
def test_an_archive_in_an_archive_is_not_opened(tmp_path: Path) -> None:
    inner = write_archive(tmp_path / "inner.zip", [ANT], [PHOTO])
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(inner, "inner.zip")
    with pytest.raises(InputError, match=r"outer.zip: 0 files meta.xml"):
        read(tmp_path / "outer.zip")
    path = write_archive(tmp_path / "a.zip", [ANT], [], {"multimedia.txt": inner.read_bytes()})  # type: ignore[dict-item]
    with pytest.raises(InputError, match=r"a.zip: member multimedia.txt: "):
        read(path)


def test_a_description_without_an_end(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.zip", [ANT], [PHOTO], {"meta.xml": META + " " * META_BYTES})
    with pytest.raises(InputError, match=r"member meta.xml: larger than 10 MiB"):
        read(path)


def test_entities_that_multiply(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    meta = f'<!DOCTYPE a [<!ENTITY e0 "lol">{entities}]>' + META.replace("</archive>", "&e9;</archive>")
    with pytest.raises(InputError, match=r"member meta.xml: not readable XML"):
        read(write_archive(tmp_path / "a.zip", [ANT], [PHOTO], {"meta.xml": meta}))


def test_a_link_out_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    with zipfile.ZipFile(write_archive(tmp_path / "a.zip", [ANT], [PHOTO])) as archive:
        archive.extractall(folder)
    assert read(folder).found.num_rows == 1
    (folder / "multimedia.txt").rename(tmp_path / "elsewhere.txt")
    (folder / "multimedia.txt").symlink_to(tmp_path / "elsewhere.txt")
    with pytest.raises(InputError, match=r"location 'multimedia.txt' is a link out of the archive"):
        read(folder)


def test_rows_that_cannot_be_read_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    occurrences = lines(list(CORE), [ANT, ANT | {"gbifID": "2"}, ANT | {"gbifID": "3"}])
    occurrences = occurrences.replace("\n2\t", "\n2\t\t")
    media = "gbifID\ttype\tidentifier\treferences\tlicense\tcreator\n"
    for number in range(1, 4):
        media += f"{number}\tStillImage\thttps://m.example/{number}.jpg\t\tCC_BY_4_0\t\n"
    media += "1\tStillImage\thttps://m.example/\t4.jpg\t\tCC_BY_4_0\t\n"
    members: dict[Any, str] = {"occurrence.txt": occurrences, "multimedia.txt": media}
    gathering = read(write_archive(tmp_path / "a.zip", [], [], members))
    assert gathering.found["url"].to_pylist() == ["https://m.example/1.jpg", "https://m.example/3.jpg"]
    assert sorted(gathering.dropped["reason"].to_pylist()) == ["malformed observation", "malformed row"]
    assert gathering.malformed == {"a.zip occurrences": 1, "a.zip multimedia": 1}
    assert "member multimedia.txt: 1 malformed rows are left out" in capfd.readouterr().err


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    media = lines(["gbifID", "type", "identifier", "references", "license", "creator"], []).encode()
    media += b"1\tStillImage\thttps://m.example/1.jpg\t\tCC_BY_4_0\tB\xfcrger\n"
    media += b"1\tStillImage\thttps://m.example/2.jpg\t\tCC_BY_4_0\tB\xc3\xbcrger\n"
    path = write_archive(tmp_path / "a.zip", [ANT], [], {"multimedia.txt": media})  # type: ignore[dict-item]
    gathering = read(path)
    assert gathering.found["rights_holder"].to_pylist() == ["Bürger"]
    assert gathering.dropped["reason"].to_pylist() == ["malformed row"]
