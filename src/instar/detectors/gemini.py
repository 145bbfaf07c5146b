"""Gemini of Google finds what words name, through its API; its boxes prompt SAM for masks.

Every answer is kept in a folder and read again instead of asked again, so that a second run costs nothing and finds the
same, though the model itself never answers twice alike. The API's terms are Google's; pictures leave this machine.
"""

import hashlib
import json
import math
import os
import re
import sys
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from instar.detectors import Recipe
from instar.detectors.zero_shot import (
    SAM_LICENCE,
    BoxPrompted,
    Kind,
    Number,
    Prompts,
    Score,
    Text,
    checked,
    described,
    sam_folder,
)
from instar.errors import InputError
from instar.files import replacing

FAMILY = "gemini_sam"
LICENCE = "the terms of Google's Gemini API"

#: Environment variable with the key of the API.
KEY = "GEMINI_API_KEY"

_OPTIONS: dict[str, Kind] = {
    "prompt": Text(),
    "instructions": Text(),
    "temperature": Number(0, 2),
    "max_objects": Number(1, 1000, whole=True),
    "largest_share": Number(0, 1),
    "score": Score(),
    "answers": Text(),
    "address": Text(),
    "threads": Number(1, 64, whole=True),
    "sam_model": Text(),
}

#: Times that a question is asked before it is given up, and seconds before the second time, doubled each time.
ATTEMPTS = 7
FIRST_WAIT_S = 2.0
#: No wait is longer, whatever the service asks for.
LONGEST_WAIT_S = 120.0
_TIMEOUT_S = (20.0, 180.0)
_PASSING = {408, 429, 500, 502, 503, 504}


def describe(recipe: Recipe) -> dict[str, Any]:
    """What detector.json says: the model's name, the instructions and SAM's sha256.

    ``model`` is Gemini's name; ``weights`` and ``image_px`` mean nothing here: pictures are sent as they are.

    Raises:
        InputError: if an option is wrong or SAM is missing.
    """
    options = checked(recipe.options, _OPTIONS, FAMILY)
    told = {"licence": f"{LICENCE}, {SAM_LICENCE}", "options": options, "gemini": recipe.model}
    return described(FAMILY, recipe, {"sam": sam_folder(recipe)}, most=options["max_objects"], **told)


class GeminiSam(BoxPrompted):
    """Gemini's boxes, which have no confidence, and SAM's masks of them; see the option ``score``."""

    def __init__(self, description: dict[str, Any]) -> None:
        super().__init__(description)
        self._model: str = description["gemini"]

    def _prompts(self, pictures: list[np.ndarray], floor: float) -> list[Prompts]:
        with ThreadPoolExecutor(self.options["threads"]) as pool:
            answers = list(pool.map(self._answer, pictures))
        return [self._read(answer, picture) for answer, picture in zip(answers, pictures, strict=True)]

    def _answer(self, picture: np.ndarray) -> dict[str, Any]:
        """The kept answer about a picture, or a new one, which is kept."""
        question = {
            "model": self._model,
            **{name: self.options[name] for name in ("instructions", "prompt", "temperature", "max_objects")},
            "picture": hashlib.sha256(str(picture.shape).encode() + picture.tobytes()).hexdigest(),
        }
        key = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
        path = Path(self.options["answers"]) / key[:2] / f"{key}.json"
        if path.is_file():
            return _kept(path)
        answer = {
            **question,
            "asked": datetime.now(UTC).isoformat(timespec="seconds"),
            **_told(asked(self.options["address"], self._model, self._body(picture))),
        }
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(answer, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return answer

    def _body(self, picture: np.ndarray) -> dict[str, Any]:
        """The request, as ``generateContent`` takes it; PNG, so that the model sees the very pixels."""
        _, encoded = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
        data = {"mime_type": "image/png", "data": b64encode(encoded.tobytes()).decode()}
        instructions = self.options["instructions"].replace("{max_objects}", str(self.options["max_objects"]))
        return {
            "system_instruction": {"parts": [{"text": instructions}]},
            "contents": [{"role": "user", "parts": [{"text": self.options["prompt"]}, {"inline_data": data}]}],
            "generationConfig": {"temperature": self.options["temperature"]},
            "safetySettings": [{"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "threshold": "BLOCK_ONLY_HIGH"}],
        }

    def _read(self, answer: dict[str, Any], picture: np.ndarray) -> Prompts:
        """Boxes of an answer in pixels; what is wrong with it is counted, and told where boxes may be missing."""
        height, width = picture.shape[:2]
        found, broken = objects(answer["text"])
        boxes, malformed = scaled_boxes(found, width, height)
        cut = broken or answer["finish"] == "MAX_TOKENS"
        for reason, count in (
            ("answer cut off, read up to its last whole object", int(cut)),
            ("object without a box in an answer", malformed),
            ("answer refused or ended early", int(answer["finish"] not in ("STOP", "MAX_TOKENS"))),
        ):
            self.counts[reason] += count
            if count:
                told = f"{reason}: {count}, finish {answer['finish']}"
                print(f"warning: picture {answer['picture'][:12]}: {told}", file=sys.stderr)
        return Prompts(boxes, None, full=cut or len(found) >= self.options["max_objects"])


def _kept(path: Path) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        answer["text"], answer["finish"], answer["picture"]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: not a kept answer, or damaged; remove it, and it is asked again") from None
    return answer


def _told(reply: dict[str, Any]) -> dict[str, Any]:
    """What of a reply is kept: its text, why it ends there, the model's version and what it cost in tokens."""
    candidate: dict[str, Any] = next(iter(reply.get("candidates") or []), {})
    parts = (candidate.get("content") or {}).get("parts") or []
    blocked = (reply.get("promptFeedback") or {}).get("blockReason")
    return {
        "text": "".join(str(part.get("text", "")) for part in parts if not part.get("thought")),
        "finish": str(candidate.get("finishReason") or blocked or "NO_CANDIDATE"),
        "version": reply.get("modelVersion"),
        "tokens": reply.get("usageMetadata"),
    }


def asked(address: str, model: str, body: dict[str, Any]) -> dict[str, Any]:
    """One answer of the API; a service that is busy, down or cut off is asked again, later each time.

    Args:
        address: of the service, with its scheme.
        model: Gemini's name.
        body: of the request.

    Raises:
        InputError: if there is no key, the service refuses it or the model, the day's quota is used up, or the service
            stays away.
    """
    import requests

    key = os.environ.get(KEY, "")
    if not key:
        raise InputError(f"{KEY}: not set in the environment; set it to your key of Google's Gemini API")
    url = f"{address.rstrip('/')}/v1beta/models/{model}:generateContent"
    trouble = ""
    for attempt in range(ATTEMPTS):
        wait = FIRST_WAIT_S * 2**attempt
        try:
            # in a header, since addresses end up in logs; and a redirect would hand it on
            reply = requests.post(
                url, json=body, headers={"x-goog-api-key": key}, timeout=_TIMEOUT_S, allow_redirects=False
            )
            if reply.status_code == 200:
                told = reply.json()
                if isinstance(told, dict):
                    return told
                trouble = "an answer that is no object"
            else:
                trouble, asked_wait = _trouble(reply, model)
                wait = max(wait, asked_wait)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            trouble = type(error).__name__
        except requests.exceptions.JSONDecodeError:
            trouble = "an answer that is no JSON"
        except (requests.exceptions.MissingSchema, requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema):
            raise InputError(f"detector.options.address = {address}: no address of a web service") from None
        if attempt + 1 < ATTEMPTS:
            wait = min(wait, LONGEST_WAIT_S)
            print(f"Gemini: {trouble}; asked again in {wait:.0f} s", file=sys.stderr)
            time.sleep(wait)
    raise InputError(f"{url}: {trouble}, {ATTEMPTS} times; the answers so far are kept, start again later")


def _trouble(reply: Any, model: str) -> tuple[str, float]:
    """What is wrong with a reply that may be better later, and how many seconds it asks to wait.

    Raises:
        InputError: if later is no better.
    """
    error = _error(reply)
    message = " ".join(str(error.get("message", "")).split())[:200] or reply.reason
    code = reply.status_code
    if code == 404:
        raise InputError(f"detector.model = {model}: Gemini has no such model ({message}); name another")
    if code in (401, 403) or (code == 400 and "api key" in message.lower()):
        raise InputError(f"{KEY}: refused by the service ({code}: {message}); set a key that is good for {model}")
    if code not in _PASSING:
        raise InputError(f"Gemini answers {code}: {message}; check the options of the detector")
    details = [one for one in error.get("details") or [] if isinstance(one, dict)]
    quotas = [str(one.get("quotaId", "")) for detail in details for one in detail.get("violations") or []]
    if code == 429 and any("PerDay" in quota for quota in quotas):
        raise InputError(
            f"Gemini's quota of the day is used up ({message}); the answers so far are kept, go on tomorrow"
        )
    delays = [str(reply.headers.get("Retry-After", "")), *(str(one.get("retryDelay", "")) for one in details)]
    waits = [float(match.group(1)) for one in delays if (match := re.fullmatch(r"(\d+(?:\.\d+)?)s?", one))]
    return f"{code} {message}", max(waits, default=0.0)


def _error(reply: Any) -> dict[str, Any]:
    try:
        told = reply.json()
    except ValueError:
        return {}
    error = told.get("error") if isinstance(told, dict) else None
    return error if isinstance(error, dict) else {}


def objects(text: str) -> tuple[list[Any], bool]:
    """The JSON objects in an answer, whatever stands around them, and whether one is broken or its list has no end.

    >>> objects('Here: [{"a": 1}, {"b": 2}, {"c"')
    ([{'a': 1}, {'b': 2}], True)
    """
    decoder = json.JSONDecoder()
    found: list[Any] = []
    broken, end = False, 0
    start = text.find("{")
    listed = "[" in text[: max(start, 0)] or (start < 0 and "[" in text)
    while start >= 0:
        try:
            one, end = decoder.raw_decode(text, start)
        except ValueError:
            broken, end = True, start + 1
        else:
            lists = [value for value in one.values() if isinstance(value, list)]
            # a list of objects under a name is taken for the list itself
            wrapped = len(lists) == 1 and all(isinstance(inner, dict) for inner in lists[0])
            found += lists[0] if wrapped else [one]
        start = text.find("{", end)
    return found, broken or (listed and "]" not in text[end:])


def scaled_boxes(found: list[Any], width: int, height: int) -> tuple[np.ndarray, int]:
    """Boxes of an answer in pixels, and how many of its objects have none.

    Args:
        found: objects with ``box_2d``, which is ``y_min, x_min, y_max, x_max`` in thousandths of the picture's sides.
        width: of the picture, pixels.
        height: likewise.

    Returns:
        float64, shape (n, 4), ``x_min, y_min, x_max, y_max``; and the count.
    """
    boxes = [[box[1], box[0], box[3], box[2]] for one in found if (box := _box(one)) is not None]
    scale = np.array([width, height, width, height]) / 1000
    return np.array(boxes, np.float64).reshape(-1, 4) * scale, len(found) - len(boxes)


def _box(one: Any) -> list[float] | None:
    box = one.get("box_2d") if isinstance(one, dict) else None
    if not isinstance(box, list) or len(box) != 4:
        return None
    numbers = [float(n) for n in box if isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n)]
    if len(numbers) < 4 or not all(0 <= n <= 1000 for n in numbers):
        return None
    return numbers if numbers[0] < numbers[2] and numbers[1] < numbers[3] else None
