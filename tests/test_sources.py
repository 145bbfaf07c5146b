"""Fetching from services: against a real server on this machine that pages and misbehaves."""

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from service import Answer, Asked, Service, serving
from test_gbif import ANT as ROW
from test_gbif import PHOTO as MEDIA
from test_gbif import write_archive
from test_gbif_search import ANT
from test_inaturalist_api import ANCESTORS, NIGER, OBSERVATION

import instar
from instar.errors import InputError
from instar.records import gbif_search as search_reader
from instar.records import inaturalist_api as api_reader
from instar.records.gbif import INATURALIST
from instar.records.names import entries
from instar.sources import gbif, web
from instar.sources import inaturalist_api as api
from instar.sources.backbone import backbone
from instar.sources.command import source
from instar.sources.gbif import gbif_download, gbif_search
from instar.sources.inaturalist_api import inaturalist_api

KEY = "0001234-250101000000000"
COUNT = 7
ANYWHERE: dict[str, Any] = {"bbox": [], "observed_from": "", "observed_to": ""}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "workspace").mkdir()
    monkeypatch.chdir(tmp_path / "workspace")
    monkeypatch.setattr(web, "BACKOFF_S", 0.001)
    monkeypatch.setattr(web, "CHUNK_BYTES", 10)
    monkeypatch.setattr(api, "PER_PAGE", 3)
    monkeypatch.setattr(api, "PER_MINUTE", 6000)


TROUBLES = [
    Answer(status=429, headers={"Retry-After": "0"}),
    Answer(status=429),
    Answer(status=500, body=b"<html>"),
    Answer(status=503, headers={"Retry-After": "0"}),
    Answer(body={"results": [], "filler": "x" * 500}, cut=100),
    Answer(body=b'{"results": ['),
    Answer(body=b"[1, 2]"),
    Answer(body=b"null"),
    Answer(body=b"[" * 100_000),
    Answer(body=b"<html>an error page</html>", headers={"Content-Type": "text/html"}),
]


class TestINaturalist:
    """Observations 1 to 7, three a page."""

    @pytest.fixture
    def service(self) -> Iterator[Service]:
        with serving(self.answer) as service:
            yield service

    def answer(self, asked: Asked) -> Answer:
        if asked.path == "/taxa":
            return Answer(
                {"results": [{"id": 47336, "name": "Formicidae", "rank": "family"}, {"id": 1, "name": "Ants"}]}
            )
        if asked.path.startswith("/taxa/"):
            return Answer({"results": [one for one in [*ANCESTORS, NIGER] if str(one["id"]) in asked.path]})
        if asked.path == "/observations":
            above = int(asked.query["id_above"])
            numbers = range(above + 1, min(above + 1 + int(asked.query["per_page"]), COUNT + 1))
            return Answer({"total_results": COUNT - above, "results": [self.observation(number) for number in numbers]})
        number = int(asked.path.rsplit("/", 1)[-1])
        return Answer({"results": [self.observation(number)] if number <= COUNT else []})

    def observation(self, number: int) -> dict[str, Any]:
        photo = OBSERVATION["photos"][0] | {"id": 70 + number}
        return OBSERVATION | {"id": number, "uuid": f"u-{number}", "photos": [photo], "identifications": []}

    def fetch(self, service: Service, folder: Path, **more: Any) -> None:
        given: dict[str, Any] = {"taxon": "Formicidae", "quality_grades": ["research"], "url": service.url, **ANYWHERE}
        inaturalist_api(folder, **(given | {"limits": folder / "limits.db"} | more))

    def test_a_home_where_pyinaturalist_never_ran(
        self, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pyinaturalist.constants.RATELIMIT_FILE", str(tmp_path / "new/pyinaturalist/counts.db"))
        self.fetch(service, tmp_path, limits=None)
        assert self.photos(tmp_path) == [str(70 + number) for number in range(1, 8)]
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match=r"file/counts.db: cannot be written .*; name another file with --limits"):
            self.fetch(service, tmp_path, limits=tmp_path / "file/counts.db")

    def photos(self, folder: Path) -> list[str]:
        gathering = api_reader.gather(
            folder / "inaturalist-api", taxon="Formicidae", licences=["cc-by"], quality_grades=["research"]
        )
        return sorted(gathering.found["photo_id"].to_pylist())

    def test_pages(self, service: Service, tmp_path: Path) -> None:
        self.fetch(service, tmp_path, bbox=[-10, 40.5, 30, 60], observed_from="2020-01-01")
        assert self.photos(tmp_path) == [str(70 + number) for number in range(1, 8)]
        pages = [one.query for one in service.asked if one.path == "/observations"]
        assert [page["id_above"] for page in pages] == ["0", "3", "6"]
        assert pages[0] == {
            **{"taxon_id": "47336", "photos": "true", "quality_grade": "research", "per_page": "3"},
            **{"order_by": "id", "order": "asc", "id_above": "0", "d1": "2020-01-01"},
            **{"swlng": "-10", "swlat": "40.5", "nelng": "30", "nelat": "60"},
        }
        assert service.paths[-1] == "/taxa/1,5"  # the others' names are known by then
        assert all(f"instar/{instar.__version__}" in one.headers["User-Agent"] for one in service.asked)

    def test_answers_are_saved_as_they_came(self, service: Service, tmp_path: Path) -> None:
        self.fetch(service, tmp_path, observation=2)
        saved = tmp_path / "inaturalist-api/observation-2.json"
        assert saved.read_bytes() == self.answer(Asked("GET", "/observations/2", {}, {})).content
        with pytest.raises(InputError, match="observations/8: no such observation"):
            self.fetch(service, tmp_path, observation=8)
        assert not (tmp_path / "inaturalist-api/observation-8.json").exists()

    @pytest.mark.parametrize("trouble", TROUBLES, ids=range(len(TROUBLES)))
    def test_trouble_is_tried_again(self, service: Service, tmp_path: Path, trouble: Answer) -> None:
        service.trouble = [trouble, trouble]
        self.fetch(service, tmp_path)
        assert len(self.photos(tmp_path)) == COUNT
        assert len(service.asked) == 2 + 5

    def test_ids_that_are_no_numbers(self, service: Service, tmp_path: Path) -> None:
        strange = self.observation(9) | {"id": "x", "taxon": NIGER | {"ancestor_ids": [1, "b", 47336, 5, 9]}}
        observation = self.observation(1)
        service.trouble = [
            Answer({"results": [{"id": 47336, "name": "Formicidae", "rank": "family"}]}),
            Answer({"results": [observation, strange, strange]}),
            Answer({"results": []}),
        ]
        self.fetch(service, tmp_path)
        assert [one.query["id_above"] for one in service.asked if one.path == "/observations"] == ["0", "1"]
        assert service.paths[-1] == "/taxa/1,5"

    def test_stopped_and_gone_on(self, service: Service, tmp_path: Path) -> None:
        # the taxon and the first page come; then the service is down for good
        class Down(list[Answer]):
            def __bool__(self) -> bool:
                return len(service.asked) > 2

            def pop(self, _: Any = 0) -> Answer:
                return Answer(status=502)

        service.trouble = Down()
        with pytest.raises(
            InputError, match=r"/observations\?.*: answered 502 .*, six times; run the same command again"
        ):
            self.fetch(service, tmp_path)
        assert len(service.asked) == 2 + 6
        assert len(self.photos(tmp_path)) == 3
        service.trouble = []
        del service.asked[:]
        self.fetch(service, tmp_path)
        assert [one.query.get("id_above") for one in service.asked] == ["3", "6", None]
        assert len(self.photos(tmp_path)) == COUNT
        del service.asked[:]
        self.fetch(service, tmp_path)
        assert service.asked == []

    def test_the_days_count_outlives_the_command(
        self, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api, "PER_MINUTE", 60)
        monkeypatch.setattr(api, "PER_DAY", 61)
        self.fetch(service, tmp_path, observation=1)
        assert service.paths == ["/observations/1", "/taxa/1,5,47336"]
        with closing(sqlite3.connect(tmp_path / "limits.db")) as counts, counts:
            ((table,),) = counts.execute("SELECT name FROM sqlite_master WHERE name LIKE 'ratelimit%'")
            two = counts.execute(f"SELECT value FROM {table}").fetchall()
            assert len(two) == 2
            earlier = [(time.time() - 3600,)] * 59
            counts.execute(f"DELETE FROM {table}")
            counts.executemany(f"INSERT INTO {table} (value) VALUES (?)", [*earlier, *two])
        with pytest.raises(InputError, match=r"the day's requests are used up; run the same command again in 23\.0 h"):
            self.fetch(service, tmp_path, observation=2)
        assert len(service.asked) == 2

    def test_requests_of_a_minute(self, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(api, "PER_MINUTE", 120)
        service.trouble = [Answer(status=500)] * 3  # tries count, too
        self.fetch(service, tmp_path, observation=1)
        self.fetch(service, tmp_path, observation=2)
        self.fetch(service, tmp_path, observation=3)
        start = time.monotonic()
        assert len(service.asked) == 7
        service.trouble = [Answer(status=500)] * 3
        # ten in five seconds, whichever command they are from: the eleventh waits
        self.fetch(service, tmp_path, observation=4)
        assert len(service.asked) == 11
        assert time.monotonic() - start > 2

    def test_refusals(self, service: Service, tmp_path: Path) -> None:
        for trouble, message in [
            (
                Answer(status=422, body={"error": "Unknown taxon"}),
                r"answered 422 .*Unknown taxon.*; check what is asked",
            ),
            (Answer(status=401), r"answered 401 .*; check the account"),
            (Answer(status=429, headers={"Retry-After": "86400"}), "asks to wait 86400 s; run the same command again"),
        ]:
            service.trouble = [trouble]
            with pytest.raises(InputError, match=message):
                self.fetch(service, tmp_path)
        with pytest.raises(InputError, match="taxon 'Ameisen' is not one active taxon"):
            self.fetch(service, tmp_path, taxon="Ameisen")
        with pytest.raises(InputError, match="taxon: is empty"):
            self.fetch(service, tmp_path, taxon="")
        with pytest.raises(InputError, match=r"bbox = \[0, 60, 10, 50\] is not allowed; south and north"):
            self.fetch(service, tmp_path, bbox=[0, 60, 10, 50])


MATCH = {"usageKey": 4342, "matchType": "EXACT", "confidence": 97, "kingdom": "Animalia", "family": "Formicidae"}


class TestGbifSearch:
    """650 occurrences."""

    @pytest.fixture
    def service(self) -> Iterator[Service]:
        with serving(self.answer) as service:
            yield service

    def answer(self, asked: Asked) -> Answer:
        if asked.path == "/species/match":
            return Answer(MATCH if asked.query["name"] == "Formicidae" else {"matchType": "NONE", "note": "no"})
        start = int(asked.query["offset"])
        photo = ANT["media"][0]
        rows = [
            ANT | {"key": n, "media": [photo | {"identifier": f"https://m.example/{n}.jpg"}]}
            for n in range(start, min(start + 300, 650))
        ]
        return Answer({"offset": start, "count": 650, "endOfRecords": start + 300 >= 650, "results": rows})

    def test_pages(self, service: Service, tmp_path: Path) -> None:
        service.trouble = [Answer(status=429, headers={"Retry-After": "0"}), Answer(status=500)]
        more: dict[str, Any] = {"bbox": [-10, 40, 30, 60], "observed_from": "2001-01-01", "datasets": ["b", "a"]}
        more["observed_to"] = ""
        gbif_search(tmp_path, taxon="Formicidae", url=service.url, **more)
        found = search_reader.gather(
            tmp_path / "gbif-search", taxon="Formicidae", licences=["cc-by"], inaturalist=INATURALIST.empty_table()
        ).found
        assert found.num_rows == 650
        assert service.asked[-1].query == {
            **{"taxonKey": "4342", "mediaType": "StillImage", "datasetKey": "a", "limit": "300", "offset": "600"},
            **{"eventDate": "2001-01-01,*", "decimalLongitude": "-10,30", "decimalLatitude": "40,60"},
        }
        assert service.asked[-1].headers["User-Agent"] == f"instar/{instar.__version__}"
        del service.asked[:]
        gbif_search(tmp_path, taxon="Formicidae", url=service.url, **more)
        assert service.paths == ["/species/match"]

    def test_a_box_across_the_antimeridian(self, service: Service, tmp_path: Path) -> None:
        gbif_search(tmp_path, taxon="Formicidae", url=service.url, **ANYWHERE | {"bbox": [170.0, -20.0, -175.0, -10.0]})
        assert service.asked[-1].lists["decimalLongitude"] == ["170,180", "-180,-175"]
        assert service.asked[-1].lists["decimalLatitude"] == ["-20,-10"]

    def test_no_page_reaches_over_gbifs_limit(
        self, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gbif, "MOST", 650)
        gbif_search(tmp_path, taxon="Formicidae", url=service.url, **ANYWHERE)
        pages = [(int(one.query["offset"]), int(one.query["limit"])) for one in service.asked[1:]]
        assert pages == [(0, 300), (300, 300), (600, 50)]

    def test_it_ends_at_gbifs_limit(self, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gbif, "MOST", 300)
        page = {"count": 300, "endOfRecords": False, "results": [ANT]}
        service.trouble = [Answer(MATCH), Answer(page), Answer(status=400)]
        gbif_search(tmp_path, taxon="Formicidae", url=service.url, **ANYWHERE)
        assert service.paths == ["/species/match", "/occurrence/search"]

    @pytest.mark.parametrize("answer", [b"[]", b"null", b"4342"])
    def test_an_answer_that_is_no_mapping(self, service: Service, tmp_path: Path, answer: bytes) -> None:
        service.trouble = [Answer(body=answer)] * 6
        with pytest.raises(InputError, match=r"gave no whole answer \(no mapping in it\), six times"):
            gbif_search(tmp_path, taxon="Formicidae", url=service.url, **ANYWHERE)

    def test_too_many(self, service: Service, tmp_path: Path) -> None:
        service.trouble = [Answer(MATCH), Answer({"count": 100_001, "results": []})]
        with pytest.raises(
            InputError, match=r"100001 occurrences, .* ask for a download with instar source gbif-download"
        ):
            gbif_search(tmp_path, taxon="Formicidae", url=service.url, **ANYWHERE)
        assert not list(tmp_path.rglob("*.json"))

    def test_an_unknown_taxon(self, service: Service, tmp_path: Path) -> None:
        for name, message in (("Ameisen", "'Ameisen' has no exact match"), ("", "taxon: is empty")):
            with pytest.raises(InputError, match=message):
                gbif_search(tmp_path, taxon=name, url=service.url, **ANYWHERE)


class TestGbifDownload:
    """A download that is ready when it is asked for the third time."""

    @pytest.fixture
    def service(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
        for name, value in {"USER": "ann", "PWD": "secret", "EMAIL": "ann@m.example"}.items():
            monkeypatch.setenv(f"GBIF_{name}", value)
        self.archive = write_archive(tmp_path / "made.zip", [ROW], [MEDIA]).read_bytes()
        self.states = ["PREPARING", "RUNNING"]
        with serving(self.answer) as service:
            yield service

    def answer(self, asked: Asked) -> Answer:
        if asked.path == "/species/match":
            return Answer(MATCH)
        if asked.path == "/occurrence/download/request":
            return Answer(KEY.encode(), status=201 if asked.method == "POST" else 405)
        if asked.path.endswith(".zip"):
            start = int(asked.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
            return Answer(self.archive[start:], status=206 if start else 200)
        status = self.states.pop(0) if self.states else "SUCCEEDED"
        about: dict[str, Any] = {
            "key": KEY,
            "doi": "10.15468/dl.abc",
            "created": "2026-11-21T02:00:00.000+00:00",
            "status": status,
        }
        about |= {
            "size": len(self.archive),
            "totalRecords": 1,
            "request": {"creator": "ann", "predicate": {"type": "and"}},
        }
        return Answer(about)

    def fetch(self, service: Service, folder: Path, **more: Any) -> None:
        given: dict[str, Any] = {"taxon": "Formicidae", "poll_s": 0.01, "url": service.url, **ANYWHERE}
        gbif_download(folder, **(given | more))

    def test_a_download(self, service: Service, tmp_path: Path) -> None:
        self.fetch(
            service,
            tmp_path / "ants",
            licences=["cc0", "cc-by"],
            bbox=[-10, 40, 30, 60],
            observed_from="2001-01-01",
            datasets=["d"],
        )
        assert (tmp_path / f"ants/{KEY}.zip").read_bytes() == self.archive
        assert sorted(path.name for path in (tmp_path / "ants").iterdir()) == [f"{KEY}.json", f"{KEY}.zip"]
        about = json.loads((tmp_path / f"ants/{KEY}.json").read_text())
        assert about["doi"] == "10.15468/dl.abc"
        assert about["citation"] == "GBIF.org (2026-11-21) GBIF Occurrence Download https://doi.org/10.15468/dl.abc"
        request = service.asked[1]
        assert (request.method, request.headers["Authorization"]) == ("POST", "Basic YW5uOnNlY3JldA==")
        body = json.loads(request.body)
        assert (body["format"], body["notificationAddresses"]) == ("DWCA", ["ann@m.example"])
        assert body["predicate"]["predicates"] == [
            {"type": "equals", "key": "TAXON_KEY", "value": "4342"},
            {"type": "equals", "key": "MEDIA_TYPE", "value": "StillImage"},
            {"type": "in", "key": "LICENSE", "values": ["CC0_1_0", "CC_BY_4_0"]},
            {"type": "within", "geometry": "POLYGON((-10 40, 30 40, 30 60, -10 60, -10 40))"},
            {"type": "greaterThanOrEquals", "key": "EVENT_DATE", "value": "2001-01-01"},
            {"type": "in", "key": "DATASET_KEY", "values": ["d"]},
        ]
        written = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
        assert not any(secret in written for secret in ("secret", "ann@", '"ann"'))
        # again: the key is known, the archive is there
        del service.asked[:]
        self.fetch(
            service,
            tmp_path / "ants",
            licences=["cc0", "cc-by"],
            bbox=[-10, 40, 30, 60],
            observed_from="2001-01-01",
            datasets=["d"],
        )
        assert service.paths == ["/species/match", f"/occurrence/download/{KEY}"]

    def test_a_box_across_the_antimeridian(self, service: Service, tmp_path: Path) -> None:
        self.fetch(service, tmp_path / "ants", bbox=[170, -20, -175, -10])
        assert json.loads(service.asked[1].body)["predicate"]["predicates"][2] == {
            "type": "or",
            "predicates": [
                {"type": "within", "geometry": "POLYGON((170 -20, 180 -20, 180 -10, 170 -10, 170 -20))"},
                {"type": "within", "geometry": "POLYGON((-180 -20, -175 -20, -175 -10, -180 -10, -180 -20))"},
            ],
        }

    def test_an_interrupted_download_leaves_the_source_folder_alone(self, service: Service, tmp_path: Path) -> None:
        asked = [Answer(MATCH), Answer(KEY.encode(), status=201)]
        self.states = []
        about = self.answer(Asked("GET", f"/occurrence/download/{KEY}", {}, {}))
        service.trouble = [*asked, about, *[Answer(self.archive, cut=50)] * 6]
        with pytest.raises(InputError, match="gave no whole answer"):
            self.fetch(service, tmp_path / "ants")
        assert list((tmp_path / "ants").iterdir()) == []
        requests, part = sorted(Path(".instar/gbif").iterdir(), reverse=True)
        assert (requests.name[:8], part.name) == ("request-", f"{KEY}.zip.part")
        del service.asked[:]
        self.fetch(service, tmp_path / "ants")
        assert "/occurrence/download/request" not in service.paths
        assert (tmp_path / f"ants/{KEY}.zip").read_bytes() == self.archive
        assert not part.exists()

    def test_a_known_key_needs_no_account(
        self, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("GBIF_PWD")
        with pytest.raises(InputError, match="GBIF_PWD: is not set in the environment"):
            self.fetch(service, tmp_path / "ants")
        assert service.asked == []
        self.fetch(service, tmp_path / "ants", key=KEY)
        assert (tmp_path / f"ants/{KEY}.zip").is_file()

    def test_a_cut_archive_is_gone_on_with(self, service: Service, tmp_path: Path) -> None:
        self.states = []
        about = self.answer(Asked("GET", f"/occurrence/download/{KEY}", {}, {}))
        service.trouble = [about, Answer(self.archive, cut=50)]
        self.fetch(service, tmp_path / "ants", key=KEY)
        assert (tmp_path / f"ants/{KEY}.zip").read_bytes() == self.archive
        assert service.asked[-1].headers["Range"] == f"bytes={len(self.archive) - 50}-"

    def test_a_service_that_begins_anew(self, service: Service, tmp_path: Path) -> None:
        self.states = []
        about = self.answer(Asked("GET", f"/occurrence/download/{KEY}", {}, {}))
        service.trouble = [about, Answer(self.archive, cut=50), Answer(self.archive)]
        self.fetch(service, tmp_path / "ants", key=KEY)
        assert (tmp_path / f"ants/{KEY}.zip").read_bytes() == self.archive
        assert len(service.asked) == 3

    def test_what_is_no_archive(self, service: Service, tmp_path: Path) -> None:
        self.archive = b"<html>" * 20
        with pytest.raises(InputError, match="is no zip file"):
            self.fetch(service, tmp_path / "ants", key=KEY)
        assert list((tmp_path / "ants").iterdir()) == []

    def test_a_failed_download(self, service: Service, tmp_path: Path) -> None:
        self.states = ["RUNNING", "FAILED"]
        with pytest.raises(InputError, match=f"download/{KEY}: is FAILED; delete"):
            self.fetch(service, tmp_path / "ants")

    def test_licences_that_occurrences_do_not_have(self, service: Service, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="licences cc-by-sa: GBIF's occurrences have only cc0, cc-by, cc-by-nc"):
            self.fetch(service, tmp_path / "ants", licences=["cc-by-sa"])


class TestBackbone:
    """Every name is a synonym of Lasius niger."""

    @pytest.fixture
    def service(self, tmp_path: Path) -> Iterator[Service]:
        niger = MATCH | {"genus": "Lasius", "species": "Lasius niger"}
        other = ROW | {"gbifID": "2", "species": "", "genus": "", "family": "", "scientificName": "Formica nigra L."}
        bee = ROW | {"gbifID": "3", "family": "Apidae", "genus": "Apis", "species": "Apis mellifera"}
        (tmp_path / "ants").mkdir()
        write_archive(tmp_path / "ants/a.zip", [ROW, other, bee], [MEDIA])
        (tmp_path / "ants/gbif-search").mkdir()
        (tmp_path / "ants/gbif-search/a.json").write_text(
            json.dumps({"results": [ANT | {"species": None, "genus": "Myrmica"}]})
        )
        about = {"pubDate": "2023-08-28"}
        with serving(lambda asked: Answer(about if asked.path.startswith("/dataset") else niger)) as service:
            yield service

    def test_it_asks_once(self, service: Service, tmp_path: Path) -> None:
        service.trouble = [Answer(status=429, headers={"Retry-After": "0"}), Answer(body={"results": []})]
        backbone(tmp_path / "ants", taxon="Formicidae", kind="tables", per_second=1000, url=service.url)
        found = list(entries(tmp_path / "ants/backbone.jsonl"))
        assert [one["name"] for one in found] == ["Formica nigra L.", "Lasius niger", "Myrmica"]
        assert {(one["kingdom"], one["version"], len(one["date"])) for one in found} == {("Animalia", "2023-08-28", 10)}
        asked = {one.query["name"]: one.query for one in service.asked if one.path == "/species/match"}
        assert asked["Formica nigra L."] == {"name": "Formica nigra L.", "kingdom": "Animalia"}
        text = (tmp_path / "ants/backbone.jsonl").read_bytes()
        del service.asked[:]
        backbone(tmp_path / "ants", taxon="Formicidae", kind="tables", per_second=1000, url=service.url)
        assert service.asked == []
        assert (tmp_path / "ants/backbone.jsonl").read_bytes() == text

    def test_what_was_answered_before_a_failure_is_kept(self, service: Service, tmp_path: Path) -> None:
        good = [Answer(MATCH), Answer({}), Answer(MATCH)]
        service.trouble = [*good, *[Answer(status=500)] * 6]
        with pytest.raises(InputError, match="answered 500"):
            backbone(
                tmp_path / "ants", taxon="Formicidae", kind="tables", connections=1, per_second=1000, url=service.url
            )
        assert [one["name"] for one in entries(tmp_path / "ants/backbone.jsonl")] == ["Formica nigra L."]

    def test_its_pace(self, service: Service, tmp_path: Path) -> None:
        start = time.monotonic()
        backbone(tmp_path / "ants", taxon="Formicidae", kind="tables", per_second=20, url=service.url)
        assert time.monotonic() - start > 0.1  # three names, a twentieth of a second apart


def test_a_host_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with web.session() as client, pytest.raises(InputError, match=r"not known \(is there a network\?\), six times"):
        web.ask(client, f"http://gbif.invalid/{'long' * 100}", read=web.as_json)


def test_no_names_no_questions(tmp_path: Path) -> None:
    with serving(lambda asked: Answer(MATCH)) as service:
        with pytest.raises(InputError, match="holds no name to ask for; put the study's tables"):
            backbone(tmp_path, taxon="Formicidae", kind="tables", url=service.url)
        assert service.asked == []
    assert not (tmp_path / "backbone.jsonl").exists()


def test_the_command_takes_its_options_from_params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[1]
    text = (root / "params.yaml").read_text().replace("kind: world", "kind: tables")
    (tmp_path / "params.yaml").write_text(text.replace("workflow/conf/world/demo.yaml", "sources/demo"))
    monkeypatch.chdir(tmp_path)
    answers = {"/species/match": MATCH, "/occurrence/search": {"results": [], "count": 0, "endOfRecords": True}}
    with serving(lambda asked: Answer(answers[asked.path])) as service:
        assert source(["gbif-search", "--url", service.url]) == 0
        assert service.asked[0].query["name"] == "Formicidae"
        assert service.asked[1].query.keys() == {"taxonKey", "mediaType", "limit", "offset"}
        text = Path("params.yaml").read_text().replace("  bbox: []", "  bbox: [-10, 40, 30.5, 60]")
        Path("params.yaml").write_text(text.replace("observed_from: ''", "observed_from: '2001-01-01'"))
        source(["gbif-search", "--url", service.url])
        asked = service.asked[-1].query
        names = ["decimalLongitude", "decimalLatitude", "eventDate"]
        assert [asked[name] for name in names] == ["-10,30.5", "40,60", "2001-01-01,*"]
        source(
            ["gbif-search", "--url", service.url, "--bbox=[1, 2, 3, 4]", "--observed_from=", "--observed_to=2002-01-01"]
        )
        asked = service.asked[-1].query
        assert [asked[name] for name in names] == ["1,3", "2,4", "*,2002-01-01"]
        shutil.rmtree("sources/demo/gbif-search")
        source(["gbif-search", "--url", service.url, "--bbox=[]"])
        assert "decimalLongitude" not in service.asked[-1].query
    assert len(list(Path("sources/demo/gbif-search").rglob("offset-000000.json"))) == 1
    with pytest.raises(InputError, match="gbif: no such source; there are inaturalist-api"):
        source(["gbif"])
    monkeypatch.chdir(root)
    with pytest.raises(InputError, match="study demo: is drawn and has no sources"):
        source(["backbone"])
