"""`instar source kaggle` against a service on this machine that behaves like Kaggle's, and misbehaves."""

import base64
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from service import Answer, Asked, Service, serving
from test_zenodo import zipped

from instar.errors import InputError
from instar.sources import kaggle as module
from instar.sources import web
from instar.sources.kaggle import kaggle

ARCHIVE = zipped({"metadata.csv": b"image_id,identity,path\n", "images/Lynx/database/1.jpg": b"a" * 5000})
FILES = ["images/Lynx/database/1.jpg", "kaggle-animal-clef-2025.json", "metadata.csv"]
KEY = "s3cr3t-k3y"
WHOLE = "/api/v1/competitions/data/download-all/animal-clef-2025"


@dataclass
class Kaggle:
    """The API, which sends those who may on to a store on another host."""

    api: Service
    store: Service
    archive: bytes = ARCHIVE
    allowed: tuple[str, ...] = ()
    accepted: bool = True

    def answer(self, asked: Asked) -> Answer:
        if asked.headers.get("Authorization") not in self.allowed:
            return Answer({"code": 401, "message": "Unauthenticated"}, 401)
        if asked.path != WHOLE:
            return Answer({"code": 404, "message": "Not found"}, 404)
        if not self.accepted:
            return Answer({"code": 403, "message": "You must accept this competition's rules"}, 403)
        # a signed address, as of a bucket: a name, not a number, so that it is another host
        store = self.store.url.replace("127.0.0.1", "localhost")
        return Answer(b"", 302, {"Location": f"{store}/archive.zip?signature=1"})

    def stored(self, asked: Asked) -> Answer:
        start = asked.headers.get("Range", "").removeprefix("bytes=").rstrip("-")
        return Answer(self.archive[int(start) :], 206) if start else Answer(self.archive)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kaggle]:
    monkeypatch.setattr(web, "BACKOFF_S", 0.0)
    monkeypatch.setattr(module, "WORK", tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    holder: list[Kaggle] = []
    with serving(lambda one: holder[0].answer(one)) as api, serving(lambda one: holder[0].stored(one)) as store:
        basic = base64.b64encode(f"me:{KEY}".encode()).decode()
        holder.append(Kaggle(api, store, allowed=(f"Basic {basic}", f"Bearer {KEY}")))
        yield holder[0]


@pytest.fixture
def token(served: Kaggle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    monkeypatch.setenv("KAGGLE_KEY", KEY)


def fetch(served: Kaggle, source: Path, **options: Any) -> list[str]:
    kaggle(source, url=f"{served.api.url}/api/v1", **options)
    return sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())


def test_no_token(served: Kaggle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.kaggle/kaggle.json: no such file; create a token at .* KAGGLE_API_TOKEN"):
        fetch(served, tmp_path / "source")
    path = tmp_path / "home/.kaggle/kaggle.json"
    path.parent.mkdir(parents=True)
    for text in ("{", "[]", json.dumps({"username": "me", "secret": KEY})):
        path.write_text(text)
        with pytest.raises(InputError, match="not a token with username and key") as told:
            fetch(served, tmp_path / "source")
        assert KEY not in str(told.value)
    assert not served.api.asked
    assert not (tmp_path / "source").exists()


@pytest.mark.parametrize("kind", ["bearer", "environment", "file"])
def test_every_kind_of_token(served: Kaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    if kind == "bearer":
        monkeypatch.setenv("KAGGLE_API_TOKEN", KEY)
    elif kind == "environment":
        monkeypatch.setenv("KAGGLE_USERNAME", "me")
        monkeypatch.setenv("KAGGLE_KEY", KEY)
    else:
        monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "config"))
        (tmp_path / "config").mkdir()
        (tmp_path / "config/kaggle.json").write_text(json.dumps({"username": "me", "key": KEY}))
    assert fetch(served, tmp_path / "source") == FILES
    # the key stays with Kaggle, and in no file
    assert all("Authorization" not in one.headers for one in served.store.asked)
    written = [path for folder in ("source", "work") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    assert written and all(KEY.encode() not in path.read_bytes() for path in written)


@pytest.mark.usefixtures("token")
def test_files_are_fetched_once(served: Kaggle, tmp_path: Path) -> None:
    source = tmp_path / "source"
    assert fetch(served, source) == FILES
    assert (source / "images/Lynx/database/1.jpg").read_bytes() == b"a" * 5000
    told = json.loads((source / "kaggle-animal-clef-2025.json").read_text())
    assert told == {"competition": "animal-clef-2025", "archive_bytes": len(ARCHIVE)}
    assert not list((tmp_path / "work").rglob("*.part"))
    fetch(served, source)
    assert len(served.store.asked) == 1
    served.archive = zipped({"metadata.csv": b"new"})
    (tmp_path / "work").mkdir(exist_ok=True)
    (tmp_path / "work/animal-clef-2025.zip.part").write_bytes(ARCHIVE)
    fetch(served, source, again=True)
    assert (source / "metadata.csv").read_bytes() == b"new"


@pytest.mark.usefixtures("token")
def test_rules_that_are_not_accepted(served: Kaggle, tmp_path: Path) -> None:
    served.accepted = False
    rules = "accept the competition's rules at https://www.kaggle.com/competitions/animal-clef-2025/rules"
    with pytest.raises(InputError, match=rf"answered 403 Forbidden .*{rules}$") as told:
        fetch(served, tmp_path / "source")
    assert "\n" not in str(told.value)
    assert len(served.api.asked) == 1  # the same question would get the same answer
    served.allowed = ()
    with pytest.raises(InputError, match=rf"answered 401 Unauthorized .*check the token, and {rules}$") as told:
        fetch(served, tmp_path / "source")
    assert KEY not in str(told.value)
    assert not (tmp_path / "source").exists()


@pytest.mark.usefixtures("token")
def test_another_competition(served: Kaggle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"download-all/animal-clef-1999: answered 404 .*check what is asked for"):
        fetch(served, tmp_path / "source", competition="animal-clef-1999")
    with pytest.raises(InputError, match=r"competition '\.\./x': no name of one; give it as in its address"):
        fetch(served, tmp_path / "source", competition="../x")


@pytest.mark.usefixtures("token")
def test_a_cut_answer_goes_on_where_it_ended(served: Kaggle, tmp_path: Path) -> None:
    served.store.trouble = [Answer(ARCHIVE, cut=100), Answer(status=503), Answer(status=429)]
    assert fetch(served, tmp_path / "source") == FILES
    ranges = [one.headers.get("Range") for one in served.store.asked]
    # the cut answer ends inside a chunk, of which the client keeps what came
    assert ranges[0] is None and len(ranges) == 4
    assert all(one == ranges[1] for one in ranges[1:])


@pytest.mark.usefixtures("token")
def test_a_part_of_an_earlier_run_goes_on(served: Kaggle, tmp_path: Path) -> None:
    part = tmp_path / "work/animal-clef-2025.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(ARCHIVE[:1000])
    assert fetch(served, tmp_path / "source") == FILES
    assert [one.headers["Range"] for one in served.store.asked] == ["bytes=1000-"]
    # stopped after the last byte
    part.write_bytes(ARCHIVE)
    (tmp_path / "source/kaggle-animal-clef-2025.json").unlink()
    assert fetch(served, tmp_path / "source") == FILES
    assert len(served.store.asked) == 1


@pytest.mark.usefixtures("token")
def test_an_archive_that_is_none_or_must_not_be_unpacked(served: Kaggle, tmp_path: Path) -> None:
    served.archive = b"<html>come back later</html>"
    with pytest.raises(InputError, match=r"no zip file.*six times"):
        fetch(served, tmp_path / "deep/source")
    served.archive = zipped({"../evil.txt": b"x"})
    with pytest.raises(InputError, match=r"file '../evil.txt' leads out of the folder"):
        fetch(served, tmp_path / "deep/source")
    assert not list(tmp_path.rglob("evil.txt"))
    assert not list((tmp_path / "deep").rglob("*.json"))


@pytest.mark.usefixtures("token")
def test_a_damaged_member_is_told_and_fetched_again(served: Kaggle, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (("metadata.csv", b"image_id,identity,path\n"), ("images/Lynx/database/1.jpg", b"ab" * 500)):
            archive.writestr(name, data)
    whole = packed.getvalue()
    path = b"images/Lynx/database/1.jpg"
    start = whole.index(path) + len(path)  # in the local header; the packed bytes begin behind it
    told = set()
    for place in range(start, start + 8):
        served.archive = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        with pytest.raises(InputError, match=r"is no whole zip file \(.*\); run the same command again") as raised:
            fetch(served, tmp_path / "source")
        told.add("Error -3" in str(raised.value))
    assert told == {True, False}  # zlib's own error, and zipfile's
    served.archive = whole
    assert fetch(served, tmp_path / "source") == FILES
