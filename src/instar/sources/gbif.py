"""`instar source gbif-download` and `gbif-search`: occurrences with photographs from GBIF.

https://techdocs.gbif.org/en/openapi/v1/occurrence
"""

import hashlib
import json
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from requests import Response, Session

from instar.errors import InputError
from instar.extent import check_extent
from instar.files import replacing, write_json
from instar.progress import progress
from instar.records.gbif_search import FOLDER
from instar.sources import parts, web
from instar.store import STATE

URL = "https://api.gbif.org/v1"
#: Requests under way and archives that are not whole yet.
WORK = STATE / "gbif"
PER_PAGE = 300
#: GBIF's own limit of a search; it pages no further.
MOST = 100_000
#: Between two questions about a download that GBIF prepares, seconds; it takes minutes to hours.
POLL_S = 30.0

_UNDER_WAY = {"PREPARING", "RUNNING", "SUSPENDED"}
#: Of the occurrences: what GBIF allows its publishers.
_LICENCES = {"cc0": "CC0_1_0", "cc-by": "CC_BY_4_0", "cc-by-nc": "CC_BY_NC_4_0"}


def gbif_search(
    source: Path,
    *,
    taxon: str,
    bbox: list[float],
    observed_from: str,
    observed_to: str,
    datasets: list[str] | None = None,
    url: str = URL,
) -> int:
    """Save GBIF's answers about a taxon's occurrences with photographs; for small questions, without an account.

    Stopped and started again, it goes on where it was and asks for nothing twice.

    Args:
        source: the study's source folder; the answers lie below its ``gbif-search``.
        taxon: scientific name.
        bbox: west, south, east and north in degrees; west above east crosses the antimeridian; [] for the world.
        observed_from: first day of observation, YYYY-MM-DD; empty for any.
        observed_to: last day; likewise.
        datasets: keys of the datasets that are searched; nothing for all.
        url: of the API.

    Raises:
        InputError: if GBIF refuses, does not know the taxon, or has too many occurrences for a search.
    """
    check_extent(bbox, observed_from, observed_to)
    client = web.session()
    query: dict[str, Any] = {"taxonKey": taxon_key(client, taxon, url), "mediaType": "StillImage"}
    query |= {"datasetKey": sorted(datasets)} if datasets else {}
    if observed_from or observed_to:
        query |= {"eventDate": f"{observed_from or '*'},{observed_to or '*'}"}
    if boxes := _boxes(bbox):
        query |= {"decimalLongitude": [f"{west:g},{east:g}" for west, _, east, _ in boxes]}
        query |= {"decimalLatitude": f"{bbox[1]:g},{bbox[3]:g}"}
    digest = hashlib.sha256(json.dumps(query, sort_keys=True).encode()).hexdigest()[:8]
    folder = source / FOLDER / f"{taxon.replace(' ', '_')}-{digest}"
    for _ in progress(_pages(client, folder, query, url), "pages"):
        pass
    return 0


def _pages(client: Session, folder: Path, query: dict[str, Any], url: str) -> Iterator[Path]:
    offset, ended = 0, False
    while not ended:
        path = folder / f"offset-{offset:06d}.json"
        if not path.is_file():
            # GBIF refuses a page that reaches over its limit
            asked = {**query, "limit": min(PER_PAGE, MOST - offset), "offset": offset}
            answer = web.ask(client, f"{url}/occurrence/search", read=web.as_bytes_of_results, params=asked)
            _check_count(json.loads(answer), url)
            with replacing(path) as temporary:
                temporary.write_bytes(answer)
        page = json.loads(path.read_bytes())
        offset += PER_PAGE
        ended = page.get("endOfRecords", True) or not page["results"] or offset >= MOST
        yield path


def _check_count(page: dict[str, Any], url: str) -> None:
    if page.get("count", 0) > MOST:
        raise InputError(
            f"{url}/occurrence/search: {page['count']} occurrences, a search gives at most {MOST}; ask for a download "
            f"with instar source gbif-download, or for less"
        )


def taxon_key(client: Session, taxon: str, url: str) -> int:
    """The number of a taxon in GBIF's backbone, by an exact match of its name.

    Raises:
        InputError: if there is none.
    """
    if not taxon:
        raise InputError("taxon: is empty; name one with --taxon, since all of GBIF is too much")
    answer = web.ask(client, f"{url}/species/match", read=web.as_json, params={"name": taxon, "strict": "true"})
    key = answer.get("acceptedUsageKey") or answer.get("usageKey")
    if answer.get("matchType") != "EXACT" or not key:
        told = answer.get("note") or answer.get("scientificName") or "nothing"
        raise InputError(f"{url}/species/match: taxon {taxon!r} has no exact match ({told}); give another name")
    return int(key)


def gbif_download(
    source: Path,
    *,
    taxon: str,
    bbox: list[float],
    observed_from: str,
    observed_to: str,
    key: str = "",
    licences: list[str] | None = None,
    datasets: list[str] | None = None,
    poll_s: float = POLL_S,
    url: str = URL,
) -> int:
    """Ask GBIF for a download of a taxon's occurrences with photographs, wait for it, and fetch the archive.

    The account is read from the environment: GBIF_USER, GBIF_PWD and GBIF_EMAIL; a finished download named by its key
    needs none. The request is remembered, so that the same command goes on with the same download; the archive comes as
    ``<key>.zip``, its DOI and citation as ``<key>.json``.

    Args:
        source: the study's source folder.
        taxon: scientific name.
        key: of a download that exists.
        licences: of the occurrences, which are not those of their photographs: cc0, cc-by, cc-by-nc; nothing for all.
        bbox: west, south, east and north in degrees; west above east crosses the antimeridian; [] for the world.
        observed_from: first day of observation, YYYY-MM-DD; empty for any.
        observed_to: last day; likewise.
        datasets: keys of the datasets that are wanted, for example AntWeb's; nothing for all.
        poll_s: between two questions whether the download is ready, seconds.
        url: of the API.

    Raises:
        InputError: if the account is not in the environment, GBIF refuses, or the download fails.
    """
    check_extent(bbox, observed_from, observed_to)
    client = web.session()
    source.mkdir(parents=True, exist_ok=True)
    remedy = "give the key of another one"
    if not key:
        account = _account()
        predicate = _predicate(taxon_key(client, taxon, url), licences, bbox, observed_from, observed_to, datasets)
        memory = _memory(predicate, url)
        key, remedy = _requested(client, memory, predicate, account, url), f"delete {memory} and ask again"
    about = _ready(client, key, poll_s, url, remedy)
    _fetch(client, about, source / f"{key}.zip", url)
    write_json(source / f"{key}.json", _citation(about))
    return 0


def _account() -> tuple[str, str, str]:
    values = [os.environ.get(name, "") for name in ("GBIF_USER", "GBIF_PWD", "GBIF_EMAIL")]
    for name, value in zip(("GBIF_USER", "GBIF_PWD", "GBIF_EMAIL"), values, strict=True):
        if not value:
            raise InputError(f"{name}: is not set in the environment; register at gbif.org and export it")
    return values[0], values[1], values[2]


def _predicate(
    key: int,
    licences: list[str] | None,
    bbox: list[float],
    observed_from: str,
    observed_to: str,
    datasets: list[str] | None,
) -> dict[str, Any]:
    def equals(name: str, value: object) -> dict[str, Any]:
        return {"type": "equals", "key": name, "value": str(value)}

    parts = [equals("TAXON_KEY", key), equals("MEDIA_TYPE", "StillImage")]
    if unknown := sorted(set(licences or []) - _LICENCES.keys()):
        raise InputError(f"licences {', '.join(unknown)}: GBIF's occurrences have only {', '.join(_LICENCES)}")
    if licences:
        parts.append({"type": "in", "key": "LICENSE", "values": sorted(_LICENCES[one] for one in licences)})
    if boxes := [{"type": "within", "geometry": _polygon(*box)} for box in _boxes(bbox)]:
        parts.append(boxes[0] if len(boxes) == 1 else {"type": "or", "predicates": boxes})
    if observed_from:
        parts.append({"type": "greaterThanOrEquals", "key": "EVENT_DATE", "value": observed_from})
    if observed_to:
        parts.append({"type": "lessThanOrEquals", "key": "EVENT_DATE", "value": observed_to})
    if datasets:
        parts.append({"type": "in", "key": "DATASET_KEY", "values": sorted(datasets)})
    return {"type": "and", "predicates": parts}


def _boxes(bbox: list[float]) -> list[list[float]]:
    """The box, or its two parts where it crosses the antimeridian, which no range or ring of GBIF's does."""
    if not bbox or bbox[0] <= bbox[2]:
        return [bbox] if bbox else []
    west, south, east, north = bbox
    return [[west, south, 180.0, north], [-180.0, south, east, north]]


def _polygon(west: float, south: float, east: float, north: float) -> str:
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    return f"POLYGON(({', '.join(f'{longitude:g} {latitude:g}' for longitude, latitude in corners)}))"


def _memory(predicate: dict[str, Any], url: str) -> Path:
    """The file that remembers a request: in the workspace, since DVC hashes the source folder."""
    digest = hashlib.sha256(json.dumps([url, predicate], sort_keys=True).encode()).hexdigest()[:8]
    return WORK / f"request-{digest}.json"


def _requested(client: Session, path: Path, predicate: dict[str, Any], account: tuple[str, str, str], url: str) -> str:
    """The key of the download, which an earlier run may have asked for."""
    if path.is_file():
        return str(json.loads(path.read_text(encoding="utf-8"))["key"])
    user, password, email = account
    request = {
        "creator": user,
        "notificationAddresses": [email],
        "sendNotification": False,
        "format": "DWCA",
        "predicate": predicate,
    }
    key = web.ask(
        client,
        f"{url}/occurrence/download/request",
        read=_key,
        method="POST",
        auth=(user, password),
        json=request,
    )
    write_json(path, {"key": key, "predicate": predicate})
    return key


def _key(response: Response) -> str:
    key = response.text.strip()
    if not key or len(key) > 60 or not key.replace("-", "").isalnum():
        raise ValueError(f"{key[:60]!r} is no key of a download")
    return key


def _ready(client: Session, key: str, poll_s: float, url: str, remedy: str) -> dict[str, Any]:
    """What GBIF says of a download that has succeeded."""
    for about in progress(_states(client, key, poll_s, url), f"questions whether download {key} is ready"):
        status = about.get("status")
        if status == "SUCCEEDED":
            return about
        if status not in _UNDER_WAY:
            raise InputError(f"{url}/occurrence/download/{key}: is {status}; {remedy}")
    raise AssertionError("the states do not end")


def _states(client: Session, key: str, poll_s: float, url: str) -> Iterator[dict[str, Any]]:
    while True:
        yield web.ask(client, f"{url}/occurrence/download/{key}", read=web.as_json)
        time.sleep(poll_s)


def _citation(about: dict[str, Any]) -> dict[str, Any]:
    doi = about.get("doi")
    day = str(about.get("created") or "")[:10]
    citation = f"GBIF.org ({day}) GBIF Occurrence Download https://doi.org/{doi}" if doi else None
    # the rest of the request holds the account's name and address
    predicate = (about.get("request") or {}).get("predicate")
    names = ("key", "doi", "license", "created", "size", "totalRecords", "numberDatasets")
    return {**{name: about.get(name) for name in names}, "citation": citation, "predicate": predicate}


def _fetch(client: Session, about: dict[str, Any], path: Path, url: str) -> None:
    """The archive, going on where an earlier run stopped; it takes its name when it is whole."""
    size = about.get("size")
    if path.is_file() and path.stat().st_size == size:
        return
    part = WORK / f"{path.name}.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    link = about.get("downloadLink") or f"{url}/occurrence/download/request/{about['key']}.zip"
    if not part.is_file() or part.stat().st_size != size:
        parts.fetch(client, link, part, size)
    try:
        with zipfile.ZipFile(part):
            pass
    except zipfile.BadZipFile as error:
        part.unlink()
        raise InputError(f"{link}: is no zip file ({error}); run the same command again") from None
    parts.move(part, path)
