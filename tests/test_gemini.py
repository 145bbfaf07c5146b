"""Gemini against a local service that misbehaves on demand; its boxes prompt a tiny SAM."""

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tiny_models
from service import Answer, Asked, Service, serving
from test_zero_shot import LIMITS, drawn, options, whole

from instar.detectors import RANDOM, Recipe, kept_of_a_tile, load
from instar.detectors import gemini as module
from instar.detectors.gemini import GeminiSam, describe, objects, scaled_boxes
from instar.errors import InputError
from instar.files import write_json

SECRET = "the-key-of-a-person"
TWO = [
    {"box_2d": [100, 200, 500, 600], "label": "fly"},
    {"box_2d": [0, 0, 250, 100], "label": "ant"},
]


def reply(text: str, finish: str | None = "STOP", **more: Any) -> dict[str, Any]:
    """What the service gives for an answer."""
    candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": finish}
    return {"candidates": [candidate], "modelVersion": "gemini-test", "usageMetadata": {"totalTokenCount": 7}, **more}


def failing(status: int, message: str = "", headers: dict[str, str] | None = None, **more: Any) -> Answer:
    return Answer({"error": {"code": status, "message": message, **more}}, status, headers or {})


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv(module.KEY, SECRET)
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(module, "LONGEST_WAIT_S", 0.01)

    def answer(asked: Asked) -> Answer:
        return Answer(reply(json.dumps(TWO)))

    with serving(answer) as found:
        yield found


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.sam(tmp_path_factory.mktemp("sam"))


@pytest.fixture
def detector(service: Service, sam: Path, tmp_path: Path) -> GeminiSam:
    return made(service, sam, tmp_path)


def made(service: Service, sam: Path, folder: Path, model: str = "gemini-2.0-flash", **changes: Any) -> GeminiSam:
    """As the stages make it: described, written and loaded."""
    given = options("gemini_sam")["options"] | {"answers": str(folder / "answers"), "address": service.url} | changes
    recipe = Recipe(model, RANDOM, 1024, 1, 1, 0.001, 0, 0, given, 0, str(sam.parent))
    write_json(folder / "detector.json", describe(recipe))
    found = load(folder)
    assert isinstance(found, GeminiSam)
    return found


def answers(folder: Path) -> list[Path]:
    return sorted((folder / "answers").rglob("*"))


def kept(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in answers(folder) if path.is_file()]


def test_nothing_is_asked_about_no_pictures(detector: GeminiSam, service: Service) -> None:
    assert detector.predict([], **LIMITS) == []
    assert service.asked == []


def test_what_it_is_asked_for_at_most_is_told(service: Service, sam: Path, tmp_path: Path) -> None:
    made(service, sam, tmp_path, max_objects=7)
    assert kept_of_a_tile(tmp_path, 1000) == 7


def test_the_request_is_the_published_one(detector: GeminiSam, service: Service) -> None:
    picture = drawn()
    (found,) = detector.predict([picture], **LIMITS)
    whole(found, 90, 150)
    (asked,) = service.asked
    assert (asked.method, asked.path) == ("POST", "/v1beta/models/gemini-2.0-flash:generateContent")
    assert asked.headers["x-goog-api-key"] == SECRET
    assert asked.query == {}
    body = json.loads(asked.body)
    assert body["generationConfig"] == {"temperature": 0.5}
    assert "at most 50 objects" in body["system_instruction"]["parts"][0]["text"]
    text, data = body["contents"][0]["parts"]
    assert text["text"].startswith("Detect the 2d bounding boxes of the small brown insects")
    sent = cv2.imdecode(np.frombuffer(b64decode(data["inline_data"]["data"]), np.uint8), cv2.IMREAD_COLOR)
    assert sent is not None
    assert np.array_equal(sent[..., ::-1], picture)


def test_boxes_are_scaled_and_scored_by_the_constant(detector: GeminiSam) -> None:
    (prompts,) = detector._prompts([drawn()], 0.01)  # 150 × 90 pixels
    assert prompts.boxes_xyxy.tolist() == [[30, 9, 90, 45], [0, 0, 15, 22.5]]
    assert prompts.scores is None
    assert not prompts.full
    (found,) = detector.predict([drawn()], **LIMITS)
    assert set(found.scores.tolist()) <= {float(np.float32(0.9))}


def test_an_answer_is_kept_and_not_asked_again(service: Service, sam: Path, tmp_path: Path) -> None:
    pictures = [drawn(0), drawn(1)]
    first = made(service, sam, tmp_path).predict(pictures, **LIMITS)
    assert len(service.asked) == 2
    record = kept(tmp_path)[0]
    assert record["text"] == json.dumps(TWO)
    assert (record["finish"], record["version"], record["tokens"]) == ("STOP", "gemini-test", {"totalTokenCount": 7})
    again = made(service, sam, tmp_path).predict(pictures, **LIMITS)
    assert len(service.asked) == 2
    for one, other in zip(first, again, strict=True):
        assert one.boxes_xyxy.tolist() == other.boxes_xyxy.tolist()
    # anything else that the answer depends on is another question
    for changes in ({"prompt": "Beetles."}, {"temperature": 0.1}, {"instructions": "Boxes."}, {"max_objects": 9}):
        made(service, sam, tmp_path, **changes).predict(pictures[:1], **LIMITS)
    made(service, sam, tmp_path, model="gemini-2.5-pro").predict(pictures[:1], **LIMITS)
    made(service, sam, tmp_path).predict([pictures[0][:, :-1].copy()], **LIMITS)
    assert len(service.asked) == 8


def test_kept_answers_need_no_key(
    detector: GeminiSam, service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    detector.predict([drawn()], **LIMITS)
    monkeypatch.delenv(module.KEY)
    detector.predict([drawn()], **LIMITS)
    with pytest.raises(InputError, match=r"^GEMINI_API_KEY: not set in the environment; set it"):
        detector.predict([drawn(1)], **LIMITS)


def test_the_key_is_nowhere(
    detector: GeminiSam, service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.trouble = [failing(503, "busy"), failing(403, "no permission")]
    with pytest.raises(InputError) as caught:
        detector.predict([drawn()], **LIMITS)
    detector.predict([drawn()], **LIMITS)
    out = capsys.readouterr()
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    for text in [str(caught.value), out.out, out.err, repr(caught.value.__context__), *written]:
        assert SECRET not in text


@pytest.mark.parametrize(
    "trouble",
    [
        failing(429, "slow down"),
        failing(503, "overloaded"),
        failing(500),
        Answer(b"<html>bad gateway</html>", 502),
        Answer(reply("[]"), cut=20),
        Answer(b"not JSON at all"),
        Answer([]),
        failing(429, "", {"Retry-After": "1"}),
        failing(429, "", details=[{"@type": "RetryInfo", "retryDelay": "31s"}, "odd"]),
    ],
)
def test_a_passing_trouble_is_asked_again(
    detector: GeminiSam, service: Service, tmp_path: Path, trouble: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    service.trouble = [trouble, trouble]
    (prompts,) = detector._prompts([drawn()], 0.01)
    assert len(prompts.boxes_xyxy) == 2
    assert len(service.asked) == 3
    assert capsys.readouterr().err.count("asked again in") == 2
    assert len(kept(tmp_path)) == 1


def test_waits_grow_and_heed_what_the_service_asks_for(
    detector: GeminiSam, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(module, "FIRST_WAIT_S", 2.0)
    monkeypatch.setattr(module, "LONGEST_WAIT_S", 50.0)
    monkeypatch.setattr(module.time, "sleep", waits.append)
    asks = [{"retryDelay": "31s"}]
    service.trouble = [failing(503), failing(429, details=asks), failing(429, "", {"Retry-After": "7"})]
    service.trouble += [failing(429, "", {"Retry-After": "900"}), failing(503), failing(503)]
    detector._prompts([drawn()], 0.01)
    assert waits == [2, 31, 8, 50, 32, 50]


def test_a_service_that_stays_away_is_given_up_and_nothing_is_kept(
    detector: GeminiSam, service: Service, tmp_path: Path
) -> None:
    service.trouble = [failing(503, "down") for _ in range(99)]
    with pytest.raises(
        InputError, match=r"503 down, 7 times; the answers so far are kept, start again later"
    ) as caught:
        detector.predict([drawn()], **LIMITS)
    assert len(service.asked) == module.ATTEMPTS
    assert "\n" not in str(caught.value)
    assert answers(tmp_path) == []


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (
            failing(429, "Quota exceeded", details=[{"violations": [{"quotaId": "GenerateRequestsPerDayPerProject"}]}]),
            r"quota of the day is used up \(Quota exceeded\); the answers so far are kept, go on tomorrow",
        ),
        (failing(400, "API key not valid."), r"^GEMINI_API_KEY: refused by the service \(400: API key not valid"),
        (failing(403, "denied"), r"^GEMINI_API_KEY: refused by the service \(403: denied\)"),
        (failing(404, "not found"), r"^detector\.model = gemini-2\.0-flash: Gemini has no such model"),
        (failing(400, "Unable to process\ninput image"), r"^Gemini answers 400: Unable to process input image"),
        (Answer(b"", 302, {"Location": "/elsewhere"}), r"^Gemini answers 302"),
    ],
)
def test_a_lasting_trouble_is_told_at_once(detector: GeminiSam, service: Service, trouble: Answer, told: str) -> None:
    service.trouble = [trouble]
    with pytest.raises(InputError, match=told) as caught:
        detector.predict([drawn()], **LIMITS)
    assert len(service.asked) == 1
    assert "\n" not in str(caught.value)


def test_no_service_at_all(detector: GeminiSam, service: Service, sam: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ConnectionError, 7 times"):
        made(service, sam, tmp_path, address="http://127.0.0.1:9").predict([drawn()], **LIMITS)
    with pytest.raises(InputError, match=r"detector\.options\.address = nowhere: no address of a web service"):
        made(service, sam, tmp_path, address="nowhere").predict([drawn()], **LIMITS)


def test_a_cut_answer_is_read_up_to_its_last_whole_object_and_counted(
    detector: GeminiSam, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    text = json.dumps(TWO)
    service.trouble = [Answer(reply(text[:-30], "MAX_TOKENS"))]
    for _ in range(2):  # the second time from what is kept
        (prompts,) = detector._prompts([drawn()], 0.01)
        assert prompts.boxes_xyxy.tolist() == [[30, 9, 90, 45]]
        assert prompts.full
    assert detector.counts["answer cut off, read up to its last whole object"] == 2
    assert "cut off, read up to its last whole object: 1, finish MAX_TOKENS" in capsys.readouterr().err


def test_malformed_boxes_are_counted(detector: GeminiSam, service: Service) -> None:
    bad = [{"box_2d": [1, 2, 3]}, {"label": "ant"}, {"box_2d": "all"}, {"box_2d": [5, 5, 5, 9]}]
    bad += [{"box_2d": [0, 0, 1001, 10]}, {"box_2d": [0, 0, None, 10]}, {"box_2d": [0, 0, True, 10]}]
    service.trouble = [Answer(reply(json.dumps([*bad, TWO[0]])))]
    (prompts,) = detector._prompts([drawn()], 0.01)
    assert prompts.boxes_xyxy.tolist() == [[30, 9, 90, 45]]
    assert detector.counts["object without a box in an answer"] == 7


@pytest.mark.parametrize(
    "body",
    [
        {"promptFeedback": {"blockReason": "SAFETY"}},
        {"candidates": []},
        {"candidates": [{"finishReason": "RECITATION"}]},
        {},
    ],
)
def test_a_refusal_is_kept_and_counted(
    detector: GeminiSam, service: Service, body: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.trouble = [Answer(body)]
    (found,) = detector.predict([drawn()], **LIMITS)
    assert len(found) == 0
    assert detector.counts["answer refused or ended early"] == 1
    assert "answer refused or ended early: 1, finish" in capsys.readouterr().err
    assert len(kept(tmp_path)) == 1


def test_as_many_objects_as_allowed_may_be_too_few(service: Service, sam: Path, tmp_path: Path) -> None:
    assert made(service, sam, tmp_path, max_objects=2)._prompts([drawn()], 0.01)[0].full
    assert not made(service, sam, tmp_path, max_objects=3)._prompts([drawn()], 0.01)[0].full


def test_a_damaged_kept_answer_is_named(detector: GeminiSam, tmp_path: Path) -> None:
    detector.predict([drawn()], **LIMITS)
    (path,) = [path for path in answers(tmp_path) if path.is_file()]
    for damage in ("", "{", "[]", "{}"):
        path.write_text(damage)
        with pytest.raises(InputError, match=rf"{path.name}: not a kept answer, or damaged; remove it"):
            detector.predict([drawn()], **LIMITS)


@pytest.mark.parametrize(
    ("text", "found", "broken"),
    [
        ("", [], False),
        ("[]", [], False),
        ("I see no insects.", [], False),
        ('[{"a": 1}, {"b": [2, 3]}]', [{"a": 1}, {"b": [2, 3]}], False),
        ('```json\n[{"a": 1}]\n```', [{"a": 1}], False),
        ('Here they are: [{"a": 1}] Anything else?', [{"a": 1}], False),
        ('{"box_2d": [1, 2, 3, 4]}', [{"box_2d": [1, 2, 3, 4]}], False),
        ('{"a": 1}\n{"a": 2}', [{"a": 1}, {"a": 2}], False),
        ('{"objects": [{"a": 1}, {"a": 2}]}', [{"a": 1}, {"a": 2}], False),
        ('{"objects": [{"a": 1}, {"a": 2}, {"a"', [{"a": 1}, {"a": 2}], True),
        ('[{"a": 1}, {"a": 2}', [{"a": 1}, {"a": 2}], True),
        ('[{"a": 1}, ', [{"a": 1}], True),
        ("[", [], True),
        ('[{"a": 1}, {"a": "x', [{"a": 1}], True),
        ('[{"a": }, {"a": 2}]', [{"a": 2}], True),
    ],
)
def test_objects_by_hand(text: str, found: list[Any], broken: bool) -> None:
    assert objects(text) == (found, broken)


def test_scaled_boxes_by_hand() -> None:
    boxes, malformed = scaled_boxes([], 100, 200)
    assert (boxes.shape, malformed) == ((0, 4), 0)
    boxes, malformed = scaled_boxes(
        [{"box_2d": [100, 200, 300.5, 1000]}, {"box_2d": [float("nan"), 0, 1, 1]}, 5], 100, 200
    )
    assert boxes.tolist() == [[20, 20, 100, pytest.approx(60.1)]]
    assert malformed == 2


def test_options_are_complete(service: Service, sam: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"detector\.options\.threads = 0 is not allowed"):
        made(service, sam, tmp_path, threads=0)
    with pytest.raises(InputError, match=r"detector\.sam = .*none: no such folder; fetch .*sam2\.1-hiera-large"):
        made(service, tmp_path / "none/model.safetensors", tmp_path)
