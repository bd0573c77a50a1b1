"""Google's emulator, a separate Redis, a bridge, two workers and Flower; requests from a plain Pub/Sub publisher."""

import base64
import io
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

IMAGES = Path(__file__).resolve().parents[2] / "examples" / "digits" / "images"
DIGIT = (IMAGES / "0001.png").read_bytes()


@pytest.fixture
def running(fleet, topics, tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "files").mkdir()
    fleet.env.update(LOWTIDE_REPLY_TOPICS="mine", LOWTIDE_FILE_ROOTS=str(tmp_path / "files"), LOWTIDE_MODELS="digits")
    topics.listen("mine", make=True)
    fleet.start("bridge", "bridge", "--create")
    for slot in ("0", "1"):
        fleet.start(f"worker-{slot}", "worker", LOWTIDE_WORKER_SLOT=slot)
    fleet.wait_ready(workers=2, bridges=1)
    return fleet


def bodies(messages: list[Any]) -> dict[str, dict[str, Any]]:
    results = [json.loads(message.data) for message in messages]
    return {result["request_id"]: result for result in results}


def test_every_form_of_request_gets_its_result(running, topics, tmp_path: Path) -> None:
    (tmp_path / "files" / "7.png").write_bytes(DIGIT)
    uri = (tmp_path / "files" / "7.png").as_uri()
    results, mine = topics.listen("lowtide-results"), topics.listen("mine")
    inline = base64.b64encode(DIGIT).decode()

    plain = topics.publish(json.dumps({"model": "digits", "data": inline}).encode())
    topics.publish(json.dumps({"model": "digits", "uri": uri, "request_id": "by uri"}).encode())
    topics.publish(DIGIT, model="digits", request_id="raw", **{"x-tenant": "a", "other": "b"})
    topics.publish(DIGIT, request_id="default model", priority="high")
    topics.publish(DIGIT, request_id="to me", reply_topic="mine")
    topics.publish(DIGIT, request_id="in time", expires_at="2099-01-01T00:00:00Z")
    topics.publish(DIGIT, request_id="too late", expires_at="2020-01-01T00:00:00Z")
    event = {"ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-specversion": "1.0"}
    topics.publish(json.dumps({"model": "digits", "data": inline, "request_id": "event"}).encode(), **event)

    found = topics.collect(results, 7)
    results_by_id = bodies(found)
    assert set(results_by_id) == {plain, "by uri", "raw", "default model", "in time", "too late", "event"}
    assert {r["status"] for i, r in results_by_id.items() if i != "too late"} == {"ok"}
    assert {r["outputs"][0]["label"] for i, r in results_by_id.items() if i != "too late"} == {"2"}
    assert results_by_id["too late"]["status"] == "expired"
    assert results_by_id[plain]["message_id"] == plain
    raw = next(message for message in found if message.attributes["request_id"] == "raw")
    assert dict(raw.attributes) == {
        "request_id": "raw",
        "message_id": results_by_id["raw"]["message_id"],
        "model": "digits",
        "status": "ok",
        "x-tenant": "a",
    }
    assert set(bodies(topics.collect(mine, 1))) == {"to me"}


def test_an_upload_announced_by_cloud_storage_is_a_request(running, topics) -> None:
    results = topics.listen("lowtide-results")
    running_buckets = {"eventType": "OBJECT_FINALIZE", "bucketId": "no-such-bucket", "objectId": "a/7.png"}
    topics.publish(b"{}", request_id="upload", expires_at="2020-01-01T00:00:00Z", **running_buckets)

    assert bodies(topics.collect(results, 1))["upload"]["status"] == "expired"


def large_image() -> bytes:
    """30,000 × 30,000 pixels in a few kilobytes: a header that promises, and little behind it."""
    image = Image.new("1", (30_000, 30_000))
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=9)
    return file.getvalue()


def test_bad_input_ends_in_the_right_place_with_a_reason_and_its_neighbours_succeed(running, topics) -> None:
    results, dead = topics.listen("lowtide-results"), topics.listen("lowtide-dead-letters")
    jpeg = io.BytesIO()
    Image.effect_noise((200, 200), 50).convert("RGB").save(jpeg, "JPEG")
    good = [topics.publish(DIGIT, request_id=f"good {index}") for index in range(10)]
    uri = {"missing file": "file:///no/such.png", "forbidden scheme": "ftp://x/y.png"}

    topics.publish(b'{"model": "digits", "data', request_id="malformed")
    topics.publish(b'{"uri": "gs://b/o", "model": "gpt"}', request_id="unknown model")
    topics.publish(b'{"model": "digits"}', request_id="no content")
    topics.publish(DIGIT, request_id="reply elsewhere", reply_topic="theirs")
    for name, value in uri.items():
        topics.publish(json.dumps({"model": "digits", "uri": value}).encode(), request_id=name)
    topics.publish(jpeg.getvalue()[: len(jpeg.getvalue()) // 2], request_id="truncated jpeg")
    topics.publish(b"just text", request_id="text named jpg", model="digits")
    topics.publish(large_image(), request_id="too many pixels")
    topics.publish(b"\xff" * 9_900_000, request_id="9.9 MB")
    topics.publish(DIGIT, request_id="100 attributes", **{f"a{index}": "x" for index in range(99)})
    good += [topics.publish(DIGIT, request_id=f"good {index}") for index in range(10, 20)]

    letters = {m.attributes["lowtide_request_id"]: m for m in topics.collect(dead, 4)}
    assert {name: m.attributes["lowtide_reason"] for name, m in letters.items()} == {
        "malformed": "malformed_json",
        "unknown model": "unknown_model",
        "no content": "invalid_request",
        "reply elsewhere": "reply_topic_not_allowed",
    }
    assert letters["malformed"].data == b'{"model": "digits", "data'
    assert "digits" in letters["unknown model"].attributes["lowtide_error"]
    found = bodies(topics.collect(results, 27))
    assert sum(result["status"] == "ok" for name, result in found.items() if name.startswith("good")) == len(good)
    assert found["100 attributes"]["status"] == "ok"
    failures = {name: result["error"]["type"] for name, result in found.items() if result["status"] == "failed"}
    assert failures == {
        "missing file": "forbidden",
        "forbidden scheme": "forbidden",
        "truncated jpeg": "truncated_image",
        "text named jpg": "not_an_image",
        "too many pixels": "image_too_large",
        "9.9 MB": "not_an_image",
    }
    assert all(result["error"]["message"] for result in found.values() if result["status"] == "failed")


@pytest.mark.timeout(240)
def test_killing_a_worker_and_the_bridge_loses_nothing(running, topics) -> None:
    results = topics.listen("lowtide-results")
    futures = [
        topics.publisher.publish(topics.topic("lowtide-requests"), DIGIT, request_id=str(index))
        for index in range(2000)
    ]
    published = {future.result(timeout=60) for future in futures}
    first = topics.collect(results, 100)
    running.kill("worker-0")
    running.kill("bridge")
    running.start("bridge", "bridge")
    running.start("worker-0", "worker", LOWTIDE_WORKER_SLOT="0")
    flowing = topics.collect(results, 1, within_s=60)
    rest = topics.collect(results, len(published) - len(first) - len(flowing), within_s=150)

    answered = {json.loads(message.data)["message_id"] for message in [*first, *flowing, *rest]}
    assert flowing
    assert answered == published


def test_flower_shows_chunks_of_both_doors_and_may_only_look(running, topics) -> None:
    running.start("flower", "flower", LOWTIDE_FLOWER_PORT="0")
    pytest.importorskip("flower")
