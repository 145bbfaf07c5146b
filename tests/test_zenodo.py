"""`instar source zenodo` against a service on this machine that behaves like Zenodo's, and misbehaves."""

import hashlib
import io
import json
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from service import Answer, Asked, Service, serving

from instar.errors import InputError
from instar.sources import web
from instar.sources import zenodo as module
from instar.sources.zenodo import zenodo


def zipped(files: dict[str, bytes], *, link: str = "") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        if link:
            one = zipfile.ZipInfo(link)
            one.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(one, "/etc")
    return packed.getvalue()


PHOTOGRAPHS = zipped({"edited/A_1.jpg": b"a" * 5000, "edited/": b"", "edited/B_1.jpg": b"b"})
TABLE = b"photo,sample\nA_1,A\n"


@dataclass
class Zenodo:
    """The record's files; ``ranges`` says whether the service knows them."""

    service: Service
    files: dict[str, bytes] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    ranges: bool = True

    def answer(self, asked: Asked) -> Answer:
        if asked.path == "/api/records/7":
            return Answer({"id": 7, "doi": "10.5281/zenodo.7", "metadata": ABOUT, "files": self.listed()})
        name = asked.path.removeprefix("/files/")
        if name not in self.files:
            return Answer({"message": "none"}, 404)
        data, start = self.files[name], asked.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-")
        if self.ranges and "Range" in asked.headers:
            return Answer(data[int(start) :], 206)
        return Answer(data)

    def listed(self) -> list[dict[str, Any]]:
        return [
            {
                "key": name,
                "size": len(data),
                "checksum": self.wrong.get(name, f"md5:{hashlib.md5(data, usedforsecurity=False).hexdigest()}"),
                "links": {"self": f"{self.service.url}/files/{name}"},
            }
            for name, data in self.files.items()
        ]

    def fetched(self) -> list[str]:
        return [path for path in self.service.paths if path.startswith("/files/")]


ABOUT = {"title": "Trays", "license": {"id": "cc-by-4.0"}}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Zenodo]:
    monkeypatch.setattr(web, "BACKOFF_S", 0.0)
    monkeypatch.setattr(module, "WORK", tmp_path / "work")
    holder: list[Zenodo] = []
    with serving(lambda asked: holder[0].answer(asked)) as service:
        holder.append(Zenodo(service, {"bulk.zip": PHOTOGRAPHS, "metadata.csv": TABLE}))
        yield holder[0]


def fetch(served: Zenodo, source: Path, **options: Any) -> None:
    zenodo(source, record=7, url=f"{served.service.url}/api", **options)


def test_a_record_without_files(served: Zenodo, tmp_path: Path) -> None:
    served.files = {}
    fetch(served, tmp_path / "source")
    assert not (tmp_path / "source").exists()
    with pytest.raises(InputError, match=r"has no file a.zip; it has "):
        fetch(served, tmp_path / "source", files=["a.zip"])
    with pytest.raises(InputError, match="answered 404"):
        zenodo(tmp_path / "source", record=8, url=f"{served.service.url}/api")


def test_files_are_fetched_checked_and_unpacked(served: Zenodo, tmp_path: Path) -> None:
    source = tmp_path / "source"
    fetch(served, source)
    assert sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()) == [
        "edited/A_1.jpg",
        "edited/B_1.jpg",
        "metadata.csv",
        "zenodo-7.json",
    ]
    assert (source / "edited/A_1.jpg").read_bytes() == b"a" * 5000
    told = json.loads((source / "zenodo-7.json").read_text())
    assert (told["doi"], told["licence"], told["title"]) == ("10.5281/zenodo.7", "cc-by-4.0", "Trays")
    assert list(told["files"]) == ["bulk.zip", "metadata.csv"]
    assert not list((tmp_path / "work").rglob("*.part"))
    before = served.fetched()
    fetch(served, source)
    assert served.fetched() == before  # nothing twice
    served.files["metadata.csv"] = b"photo,sample\n"  # a new version of one
    fetch(served, source)
    assert served.fetched() == [*before, "/files/metadata.csv"]
    (source / "metadata.csv").unlink()
    fetch(served, source)
    assert served.fetched() == [*before, "/files/metadata.csv", "/files/metadata.csv"]
    assert (source / "metadata.csv").read_bytes() == b"photo,sample\n"


def test_only_the_wanted_files_and_packed(served: Zenodo, tmp_path: Path) -> None:
    fetch(served, tmp_path / "source", files=["bulk.zip"], unzip=False)
    assert (tmp_path / "source/bulk.zip").read_bytes() == PHOTOGRAPHS
    assert not (tmp_path / "source/metadata.csv").exists()
    before = served.fetched()
    fetch(served, tmp_path / "source", files=["bulk.zip"])  # unpacked after all
    assert (tmp_path / "source/edited/B_1.jpg").read_bytes() == b"b"
    assert not (tmp_path / "source/bulk.zip").exists()
    fetch(served, tmp_path / "source", files=["bulk.zip"])
    assert served.fetched() == before


def test_a_kill_before_a_whole_file_is_noted_costs_no_second_download(served: Zenodo, tmp_path: Path) -> None:
    fetch(served, tmp_path / "source", files=["metadata.csv"])
    (tmp_path / "source/zenodo-7.json").unlink()
    fetch(served, tmp_path / "source", files=["metadata.csv"])
    assert served.fetched() == ["/files/metadata.csv"]


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"files": 3}'])
def test_a_damaged_note_of_what_is_whole(served: Zenodo, tmp_path: Path, text: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/zenodo-7.json").write_text(text)
    with pytest.raises(InputError, match=r"zenodo-7.json: is damaged \(.*\); remove it") as told:
        fetch(served, tmp_path / "source")
    assert "\n" not in str(told.value)


def test_only_archives_are_unpacked(served: Zenodo, tmp_path: Path) -> None:
    """A spreadsheet is a zip file as well."""
    served.files["metadata.xlsx"] = PHOTOGRAPHS
    fetch(served, tmp_path / "source", files=["metadata.xlsx"])
    assert (tmp_path / "source/metadata.xlsx").read_bytes() == PHOTOGRAPHS
    assert not (tmp_path / "source/edited").exists()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_answer_goes_on_where_it_ended(served: Zenodo, tmp_path: Path, ranges: bool) -> None:
    served.ranges = ranges
    record = Answer({"id": 7, "metadata": ABOUT, "files": served.listed()})
    served.service.trouble = [record, Answer(PHOTOGRAPHS, cut=100), Answer(status=503), Answer(status=429)]
    fetch(served, tmp_path / "source")
    assert (tmp_path / "source/edited/A_1.jpg").read_bytes() == b"a" * 5000
    ranges_asked = [one.headers.get("Range") for one in served.service.asked if one.path == "/files/bulk.zip"]
    # the cut answer ends inside a chunk, of which the client keeps what came
    assert ranges_asked[0] is None
    assert len(ranges_asked) == 4
    assert all(one is None or one == ranges_asked[1] for one in ranges_asked[1:])


def test_a_part_of_an_earlier_run_goes_on(served: Zenodo, tmp_path: Path) -> None:
    part = tmp_path / "work/7/bulk.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(PHOTOGRAPHS[:1000])
    fetch(served, tmp_path / "source")
    assert served.service.asked[1].headers["Range"] == "bytes=1000-"
    assert (tmp_path / "source/edited/A_1.jpg").read_bytes() == b"a" * 5000


@pytest.mark.parametrize("data", [b"x" * len(PHOTOGRAPHS), b"x" * (len(PHOTOGRAPHS) + 1), b"x" * 10])
def test_a_part_of_another_version_is_fetched_anew(served: Zenodo, tmp_path: Path, data: bytes) -> None:
    part = tmp_path / "work/7/bulk.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(data)
    fetch(served, tmp_path / "source")
    assert (tmp_path / "source/edited/A_1.jpg").read_bytes() == b"a" * 5000


def test_a_wrong_checksum(served: Zenodo, tmp_path: Path) -> None:
    served.wrong = {"metadata.csv": "md5:" + "0" * 32}
    with pytest.raises(InputError, match=r"md5 [0-9a-f]{32} instead of 0{32}.*six times") as told:
        fetch(served, tmp_path / "source")
    assert "\n" not in str(told.value)
    assert served.fetched().count("/files/metadata.csv") == 6
    assert not (tmp_path / "source/metadata.csv").exists()
    assert (tmp_path / "source/edited/A_1.jpg").exists()  # what was whole is kept
    served.wrong = {}
    fetch(served, tmp_path / "source")
    assert served.fetched().count("/files/bulk.zip") == 1


def test_a_checksum_that_is_none(served: Zenodo, tmp_path: Path) -> None:
    served.wrong = {"metadata.csv": "sha1:12"}
    with pytest.raises(InputError, match=r"not a record with files \(checksum 'sha1:12' is no md5\)"):
        fetch(served, tmp_path / "source")


@pytest.mark.parametrize("status", [429, 503])
def test_a_long_wait_is_told(served: Zenodo, tmp_path: Path, status: int) -> None:
    served.service.trouble = [Answer(status=status, headers={"Retry-After": "9000"})]
    with pytest.raises(InputError, match="asks to wait 9000 s; run the same command again after that"):
        fetch(served, tmp_path / "source")


@pytest.mark.parametrize(
    ("archive", "problem"),
    [
        (zipped({"../evil.txt": b"x"}), r"file '../evil.txt' leads out of the folder"),
        (zipped({"/evil.txt": b"x"}), r"file '/evil.txt' leads out of the folder"),
        (zipped({"a\\..\\..\\evil.txt": b"x"}), "leads out of the folder"),
        (zipped({"fine.txt": b"x"}, link="edited"), "file 'edited' is a link"),
        (PHOTOGRAPHS.replace(b"a" * 5000, b"a" * 4999 + b"c"), r"is no whole zip file \(Bad CRC-32"),
    ],
    # an archive holds the time at which it was made, and each process makes its own
    ids=["up and out", "absolute", "backslashes", "link", "damaged"],
)
def test_an_archive_that_must_not_be_unpacked(served: Zenodo, tmp_path: Path, archive: bytes, problem: str) -> None:
    served.files = {"bulk.zip": archive}
    with pytest.raises(InputError, match=problem) as told:
        fetch(served, tmp_path / "deep/source")
    assert "\n" not in str(told.value)
    assert not list(tmp_path.rglob("evil.txt"))
    assert not (tmp_path / "deep/source/zenodo-7.json").exists()


def test_an_archive_that_would_fill_the_disk(served: Zenodo, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(10_000_000))
    served.files = {"bulk.zip": packed.getvalue()}
    with pytest.raises(InputError, match=r"10000000 bytes from \d+; do not use this archive"):
        fetch(served, tmp_path / "source")


def test_a_name_that_leads_out_of_the_folder(served: Zenodo, tmp_path: Path) -> None:
    served.files = {"../metadata.csv": TABLE}
    with pytest.raises(InputError, match="leads out of the folder"):
        fetch(served, tmp_path / "source")
