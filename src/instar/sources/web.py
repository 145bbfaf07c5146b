"""Asking a web service: one request at a time, with patience for its limits and none for broken answers."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import requests
from urllib3.exceptions import HTTPError, MaxRetryError, NameResolutionError
from urllib3.util import Retry

import instar
from instar.errors import InputError

T = TypeVar("T")

USER_AGENT = f"instar/{instar.__version__}"

#: Answers that may get better.
AGAIN = (408, 429, 500, 502, 503, 504)
#: A service that asks for more is left alone until the command is run again, seconds.
LONGEST_WAIT_S = 900.0
BACKOFF_S = 1.0
#: To connect, and between two pieces of an answer, seconds.
TIMEOUT_S = (10.0, 60.0)
CHUNK_BYTES = 1 << 20
#: The remedy where a service answers 401 or 403.
DENIED = "check the account"


def retries() -> Retry:
    """The policy: six tries, waits of 2, 4, 8, … seconds with jitter or what the answer's Retry-After says."""
    return Retry(
        total=5,
        backoff_factor=BACKOFF_S,
        backoff_jitter=BACKOFF_S,
        backoff_max=120,
        status_forcelist=AGAIN,
        retry_after_max=10**7,  # so that a longer wait is seen and told, not shortened
    )


def session() -> requests.Session:
    """A session that says who asks."""
    made = requests.Session()
    made.headers["User-Agent"] = USER_AGENT
    return made


def ask(
    client: requests.Session,
    url: str,
    *,
    read: Callable[[requests.Response], T],
    method: str = "GET",
    missing: T | None = None,
    headers: Callable[[], dict[str, str]] | None = None,
    denied: str = DENIED,
    **arguments: Any,
) -> T:
    """Ask until there is a whole answer.

    Args:
        client: a session; of pyinaturalist or of ``session``.
        url: what is asked for.
        read: takes what is wanted out of a good answer; a ValueError says that the answer is broken, and asks again.
        method: of HTTP.
        missing: given back where the service answers 404, if not None.
        headers: of each try.
        denied: the remedy where the service answers 401 or 403.
        arguments: for ``requests.Session.request``.

    Raises:
        InputError: if the service refuses, asks to wait too long, or gives no whole answer in six tries.
    """
    policy = retries()
    arguments = {"timeout": TIMEOUT_S, **arguments}
    while True:
        response, problem = None, ""
        try:
            more: dict[str, Any] = {"headers": headers()} if headers else {}
            response = client.request(method, url, **arguments, **more)
            if response.status_code not in AGAIN:
                if response.status_code == 404 and missing is not None:
                    return missing
                _refuse(response, url, denied)
                return read(response)
            problem = f"answered {response.status_code} {response.reason}"
        except (requests.RequestException, HTTPError, ValueError, RecursionError) as error:
            problem = f"gave no whole answer ({' '.join(str(error).split())[:200]})"
            if isinstance(getattr(error.args[0] if error.args else None, "reason", None), NameResolutionError):
                problem = "is at a host whose address is not known (is there a network?)"
        policy = _waited(policy, method, url, response, problem)


def _refuse(response: requests.Response, url: str, denied: str) -> None:
    """Raise where the same question would get the same answer."""
    if response.status_code >= 300:
        words = " ".join(response.text.split())[:300] or "without a word"
        remedy = denied if response.status_code in (401, 403) else "check what is asked for"
        raise InputError(f"{url}: answered {response.status_code} {response.reason} ({words}); {remedy}")


def _waited(policy: Retry, method: str, url: str, response: requests.Response | None, problem: str) -> Retry:
    raw = response.raw if response is not None else None
    asked = policy.get_retry_after(raw) if raw is not None and hasattr(raw, "headers") else None
    if asked is not None and asked > LONGEST_WAIT_S:
        raise InputError(f"{url}: {problem} and asks to wait {asked:.0f} s; run the same command again after that")
    try:
        policy = policy.increment(method, url, error=None if raw is not None else Exception(problem), response=raw)
    except MaxRetryError:
        raise InputError(f"{url}: {problem}, six times; run the same command again later") from None
    policy.sleep(raw)
    return policy


class Pace:
    """Lets threads start a request each, so that no more than some of them start in a second."""

    def __init__(self, per_second: float) -> None:
        self._gap_s, self._next, self._lock = 1 / per_second, 0.0, threading.Lock()

    def wait(self) -> None:
        with self._lock:
            start = max(self._next, time.monotonic())
            self._next = start + self._gap_s
        time.sleep(max(0.0, start - time.monotonic()))


def as_json(response: requests.Response) -> dict[str, Any]:
    """The parsed answer, a mapping; a ValueError where it is cut, no JSON or none."""
    answer = json.loads(response.content)
    if not isinstance(answer, dict):
        raise ValueError("no mapping in it")
    return answer


def as_bytes_of_results(response: requests.Response) -> bytes:
    """The answer as it came, with a list of results in it."""
    if not isinstance(as_json(response).get("results"), list):
        raise ValueError("no results in it")
    return response.content


def chunks(response: requests.Response) -> Iterator[bytes]:
    """The pieces of an answer as they come."""
    return response.iter_content(CHUNK_BYTES)
