"""`instar source inaturalist-api`: observations of a small taxon, or one, from iNaturalist's API v1.

iNaturalist asks for at most 60 requests a minute and 10,000 a day (https://www.inaturalist.org/pages/api+recommended+practices);
the limiter is pyinaturalist's, whose count lies in a file of the user's and so survives the end of a command.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from instar.errors import InputError
from instar.extent import check_extent
from instar.files import replacing, write_json
from instar.progress import progress
from instar.records.answers import mappings, pages, text
from instar.records.inaturalist_api import FOLDER, above_of, read_taxa
from instar.sources import web

if TYPE_CHECKING:
    from pyinaturalist import ClientSession

URL = "https://api.inaturalist.org/v1"
PER_PAGE = 200
TAXA_PER_REQUEST = 30
PER_MINUTE, PER_DAY = 60, 10_000


def inaturalist_api(
    source: Path,
    *,
    taxon: str,
    quality_grades: list[str],
    bbox: list[float],
    observed_from: str,
    observed_to: str,
    observation: int = 0,
    url: str = URL,
    limits: Path | None = None,
) -> int:
    """Save iNaturalist's answers about a taxon's observations with photographs, or about one observation.

    Stopped and started again, it goes on where it was and asks for nothing twice. For a large taxon take the tables of
    iNaturalist Open Data.

    Args:
        source: the study's source folder; the answers lie below its ``inaturalist-api``.
        taxon: scientific name.
        quality_grades: research, needs_id, casual.
        bbox: west, south, east and north in degrees; west above east crosses the antimeridian; [] for the world.
        observed_from: first day of observation, YYYY-MM-DD; empty for any.
        observed_to: last day; likewise.
        observation: number of the one observation that is wanted; 0 for those of the taxon.
        url: of the API.
        limits: the file that counts requests; nothing for pyinaturalist's own, which all its programs share.

    Raises:
        InputError: if the API refuses, does not know the taxon, or the day's requests are used up.
    """
    check_extent(bbox, observed_from, observed_to)
    folder = source / FOLDER
    with _client(limits) as client:
        if observation:
            path = folder / f"observation-{observation}.json"
            _save(client, f"{url}/observations/{observation}", {}, path)
            if not json.loads(path.read_bytes())["results"]:
                path.unlink()
                raise InputError(f"{url}/observations/{observation}: no such observation; check its number")
        else:
            if not taxon:
                raise InputError("taxon: is empty; name one with --taxon, since the API is for small taxa")
            query = _query(client, folder, taxon, url) | {"quality_grade": ",".join(sorted(quality_grades))}
            query |= _place_and_time(bbox, observed_from, observed_to)
            digest = hashlib.sha256(json.dumps(query, sort_keys=True).encode()).hexdigest()[:8]
            _save_pages(client, folder / f"{taxon.replace(' ', '_')}-{digest}", query, url)
        _save_taxa(client, folder, url)
    return 0


def _client(limits: Path | None) -> "ClientSession":
    """pyinaturalist's session: its limiter, no cache, and retries left to ``web.ask`` so that each one is counted."""
    from pyinaturalist import ClientSession
    from pyinaturalist.constants import RATELIMIT_FILE
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    path = limits or Path(RATELIMIT_FILE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # pyinaturalist does not
        path.touch()
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); name another file with --limits") from None
    client = ClientSession(
        use_memory=True,
        per_second=PER_MINUTE / 60,
        per_minute=PER_MINUTE,
        per_day=PER_DAY,
        user_agent=web.USER_AGENT,
        ratelimit_path=str(path),
        lock_path=str(path.with_suffix(".lock")),
    )
    client.settings.disabled = True
    client.limit_statuses = ()  # it would count requests that were not made; web.ask waits after a 429
    client.retries = Retry(total=0)
    client.mount("https://", HTTPAdapter(max_retries=0))
    return client


def _ask(client: "ClientSession", url: str, query: dict[str, Any]) -> bytes:
    from pyrate_limiter import BucketFullException

    # given as arguments, pyinaturalist would move dates into the zone of this machine
    address = f"{url}?{urlencode(query)}" if query else url
    try:
        return web.ask(client, address, read=web.as_bytes_of_results, raise_for_status=False, timeout=60)
    except BucketFullException as error:
        wait_h = float(error.meta_info["remaining_time"]) / 3600
        raise InputError(
            f"{url}: the day's requests are used up; run the same command again in {wait_h:.1f} h"
        ) from None


def _save(client: "ClientSession", url: str, query: dict[str, Any], path: Path) -> dict[str, Any]:
    """The answer at ``path``; it is asked for only where it is not there."""
    if not path.is_file():
        answer = _ask(client, url, query)
        with replacing(path) as temporary:
            temporary.write_bytes(answer)
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def _query(client: "ClientSession", folder: Path, taxon: str, url: str) -> dict[str, Any]:
    """The taxon's number; its answer is saved, and tells the reader where the taxon stands."""
    path = folder / f"taxon-{taxon.replace(' ', '_')}.json"
    answer = _save(client, f"{url}/taxa", {"q": taxon, "is_active": "true", "per_page": PER_PAGE}, path)
    numbers = [one["id"] for one in mappings(answer["results"]) if one.get("name") == taxon]
    if len(numbers) != 1:
        path.unlink()
        found = ", ".join(map(str, numbers)) or "none"
        raise InputError(f"{url}/taxa: taxon {taxon!r} is not one active taxon there ({found}); give another name")
    return {"taxon_id": numbers[0], "photos": "true"}


def _place_and_time(bbox: list[float], observed_from: str, observed_to: str) -> dict[str, Any]:
    query: dict[str, Any] = {name: day for name, day in (("d1", observed_from), ("d2", observed_to)) if day}
    # a western edge above the eastern one is iNaturalist's way, too, to cross the antimeridian
    return query | {name: f"{edge:g}" for name, edge in zip(("swlng", "swlat", "nelng", "nelat"), bbox, strict=False)}


def _save_pages(client: "ClientSession", folder: Path, query: dict[str, Any], url: str) -> None:
    """Each page lies under the id that it follows; a page that is not full is the last one."""
    write_json(folder.with_name(f"{folder.name}.query"), query)
    for _ in progress(_pages(client, folder, query, url), "pages"):
        pass


def _pages(client: "ClientSession", folder: Path, query: dict[str, Any], url: str) -> Iterator[Path]:
    last = 0
    while True:
        path = folder / f"above-{last:012d}.json"
        asked = {**query, "per_page": PER_PAGE, "order_by": "id", "order": "asc", "id_above": last}
        results = _save(client, f"{url}/observations", asked, path)["results"]
        yield path
        if len(results) < PER_PAGE:
            return
        numbers = [text(one.get("id")) or "" for one in mappings(results)]
        following = max((int(one) for one in numbers if one.isdecimal()), default=0)
        if following <= last:
            path.unlink()
            raise InputError(f"{url}/observations: the page after {last} holds nothing after it; ask again later")
        last = following


def _save_taxa(client: "ClientSession", folder: Path, url: str) -> None:
    """Ask for the names of taxa above the observations' own, which their answers give as numbers only."""
    wanted: set[str] = set()
    for _, results in pages(folder):
        for one in results:
            for taxon in mappings([one.get("taxon")]):
                wanted.update(above_of(taxon))
    missing = sorted((one for one in wanted - read_taxa(folder).keys() if one.isdecimal()), key=int)
    groups = [missing[at : at + TAXA_PER_REQUEST] for at in range(0, len(missing), TAXA_PER_REQUEST)]
    for group in progress(groups, "groups of taxa"):
        _save(
            client,
            f"{url}/taxa/{','.join(group)}",
            {"per_page": PER_PAGE},
            folder / f"taxa-{group[0]}-{group[-1]}.json",
        )
