"""`instar source kaggle`: the files of a competition, with one's own token, unpacked.

https://github.com/Kaggle/kaggle-api/blob/main/docs/README.md#api-credentials
"""

import json
import os
import re
import zipfile
from pathlib import Path

from requests import PreparedRequest
from requests.auth import AuthBase, HTTPBasicAuth

from instar.errors import InputError
from instar.files import remove, write_json
from instar.sources import archives, parts, web
from instar.store import STATE

URL = "https://www.kaggle.com/api/v1"
#: Where people accept a competition's rules.
RULES = "https://www.kaggle.com/competitions/{}/rules"
#: AnimalCLEF25 @ CVPR-FGVC & LifeCLEF.
COMPETITION = "animal-clef-2025"
#: Archives that are not whole yet.
WORK = STATE / "kaggle"
#: Beside the files; says that they are whole.
ABOUT = "kaggle-{}.json"

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


class _Bearer(AuthBase):
    """A token of the newer kind; requests does not hand it on to the other host that stores the files."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def kaggle(source: Path, *, competition: str = COMPETITION, again: bool = False, url: str = URL) -> int:
    """Fetch the files of a competition of Kaggle as one archive and unpack it.

    The token is read from KAGGLE_API_TOKEN, from KAGGLE_USERNAME and KAGGLE_KEY, or from ``kaggle.json`` in
    $KAGGLE_CONFIG_DIR or ~/.kaggle, and is written nowhere. Its owner must have accepted the competition's rules.
    Stopped and started again, it goes on where it was; what is whole is not fetched again.

    Args:
        source: the study's source folder.
        competition: its name, as in its address.
        again: forget what was fetched and begin anew; stopped, it is gone on with without this.
        url: of the API.

    Raises:
        InputError: if there is no token, Kaggle refuses it, its owner has not accepted the rules, there is no such
            competition, or the archive is damaged or holds paths outside of the folder.
    """
    if not _NAME.fullmatch(competition):
        raise InputError(f"competition {competition!r}: no name of one; give it as in its address: {COMPETITION}")
    about = source / ABOUT.format(competition)
    part = WORK / f"{competition}.zip.part"
    if again:
        remove(about)
        remove(part)
    if about.is_file():
        return 0
    client = web.session()
    client.auth = _token()
    link = f"{url}/competitions/data/download-all/{competition}"
    if not _is_whole(part):
        rules = f"check the token, and accept the competition's rules at {RULES.format(competition)}"
        parts.fetch(client, link, part, None, _check, denied=rules)
    size = part.stat().st_size
    source.mkdir(parents=True, exist_ok=True)
    archives.unpack(part, source, link)
    write_json(about, {"competition": competition, "archive_bytes": size})
    remove(part)  # only now, so that a kill costs no second download
    return 0


def _token() -> AuthBase:
    """What Kaggle's own client takes, in its order."""
    if token := os.environ.get("KAGGLE_API_TOKEN"):
        return _Bearer(token)
    name, key = os.environ.get("KAGGLE_USERNAME"), os.environ.get("KAGGLE_KEY")
    if name and key:
        return HTTPBasicAuth(name, key)
    path = Path(os.environ.get("KAGGLE_CONFIG_DIR") or Path.home() / ".kaggle") / "kaggle.json"
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; create a token at https://www.kaggle.com/settings and put it there, or set "
            "KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY"
        )
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return HTTPBasicAuth(str(told["username"]), str(told["key"]))
    except (ValueError, KeyError, TypeError):
        # what stands in it is not told, since it may be the key
        raise InputError(f"{path}: not a token with username and key; create another one") from None


def _is_whole(part: Path) -> bool:
    """Whether an earlier run got the archive to its end."""
    return part.is_file() and zipfile.is_zipfile(part)


def _check(part: Path) -> None:
    if not zipfile.is_zipfile(part):
        raise ValueError("no zip file")
