"""Google's emulator, a separate Redis, a bridge, a worker and Flower; requests from a plain Pub/Sub publisher."""

import base64
import io
import json
import os
import struct
import subprocess
import sys
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from PIL import Image

from tests.pictures.write import chunk
from tests.ports import steady_port
from tests.waiting import until

IMAGES = Path(__file__).resolve().parents[2] / "examples" / "digits" / "images"
DIGIT = (IMAGES / "0001.png").read_bytes()
PROGRAM_S = 240.0
"""For a program, and more than it waits for any of its answers."""

pytestmark = pytest.mark.timeout(PROGRAM_S + 60)


@pytest.fixture(scope="module")
def running(fleet, topics, cloud_storage) -> Iterator[Any]:
    files = fleet.folder / "files"
    files.mkdir()
    (files / "7.png").write_bytes(DIGIT)
    fleet.env.update(
        LOWTIDE_REPLY_TOPICS="mine",
        LOWTIDE_FILE_ROOTS=str(files),
        LOWTIDE_GS_BUCKETS="uploads",
        STORAGE_EMULATOR_HOST=cloud_storage.url,
    )
    topics.listen("mine", make=True)
    fleet.start("bridge", "bridge", "--create")
    fleet.start("worker", "worker")
    fleet.wait_ready(workers=1, bridges=1)
    return fleet


def bodies(messages: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {request_id: json.loads(message.data) for request_id, message in messages.items()}


def test_every_form_of_request_gets_its_result(running, topics) -> None:
    uri = (running.folder / "files" / "7.png").as_uri()
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

    wanted = {plain, "by uri", "raw", "default model", "in time", "too late", "event"}
    found = topics.collect(results, wanted)
    results_by_id = bodies(found)
    assert set(results_by_id) == wanted
    assert {r["status"] for i, r in results_by_id.items() if i != "too late"} == {"ok"}
    assert {r["outputs"][0]["label"] for i, r in results_by_id.items() if i != "too late"} == {"2"}
    assert results_by_id["too late"]["status"] == "expired"
    assert results_by_id[plain]["message_id"] == plain
    assert dict(found["raw"].attributes) == {
        "request_id": "raw",
        "message_id": results_by_id["raw"]["message_id"],
        "model": "digits",
        "status": "ok",
        "x-tenant": "a",
    }
    assert set(topics.collect(mine, ["to me"])) == {"to me"}


def test_an_upload_announced_by_cloud_storage_and_a_gs_uri_are_requests_for_the_object(
    running, topics, cloud_storage
) -> None:
    results = topics.listen("lowtide-results")
    cloud_storage.objects["uploads/a folder/2.png"] = b"overwritten"
    cloud_storage.objects["uploads/a folder/2.png#1"] = DIGIT
    cloud_storage.objects["uploads/live.png"] = DIGIT
    upload = {
        "notificationConfig": "projects/_/buckets/uploads/notificationConfigs/1",
        "eventType": "OBJECT_FINALIZE",
        "payloadFormat": "JSON_API_V1",
        "bucketId": "uploads",
        "objectId": "a folder/2.png",
        "objectGeneration": "1",
        "eventTime": "2026-01-01T00:00:00.000000Z",
    }
    announced = topics.publish(json.dumps({"kind": "storage#object", "name": "a folder/2.png"}).encode(), **upload)
    gone = topics.publish(b"{}", **{**upload, "objectId": "gone.png"})
    elsewhere = topics.publish(b"{}", **{**upload, "bucketId": "private"})
    uri = {"model": "digits", "uri": "gs://uploads/live.png", "request_id": "by uri"}
    topics.publish(json.dumps(uri).encode())

    found = bodies(topics.collect(results, [announced, gone, elsewhere, "by uri"]))
    assert found[announced]["outputs"][0]["label"] == found["by uri"]["outputs"][0]["label"] == "2"
    assert found[announced]["timings_ms"]["fetch"] > 0
    assert found[announced]["object"] == {"bucket": "uploads", "name": "a folder/2.png", "generation": "1"}
    assert found["by uri"]["object"] == {"bucket": "uploads", "name": "live.png", "generation": None}
    assert found[gone]["error"]["type"] == "not_found"
    assert "generation 1 is gone" in found[gone]["error"]["message"]
    assert found[elsewhere]["error"]["type"] == "forbidden"


def test_a_dead_letter_that_is_put_back_is_a_request_again(running, topics) -> None:
    dead = topics.listen("lowtide-dead-letters")
    topics.publish(b"{}", eventType="OBJECT_RENAME", bucketId="uploads", objectId="2.png", request_id="again")
    (first,) = topics.collect(dead, ["again"]).values()

    command = [sys.executable, "-m", "lowtide.cli", "replay", "--reason", "unsupported_event", "--max", "1", "--json"]
    done = subprocess.run(command, env={**os.environ, **running.env}, capture_output=True, text=True, timeout=PROGRAM_S)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["became"] == "replayed"
    (second,) = topics.collect(dead, ["again"]).values()
    assert second.attributes == first.attributes
    assert second.message_id != first.message_id


def large_image() -> bytes:
    """30,000 × 30,000 pixels: a header that promises, and little behind it."""
    header = chunk(b"IHDR", struct.pack(">2I5B", 30_000, 30_000, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")


def test_bad_input_ends_in_the_right_place_with_a_reason_and_its_neighbours_succeed(running, topics) -> None:
    results, dead = topics.listen("lowtide-results"), topics.listen("lowtide-dead-letters")
    jpeg = io.BytesIO()
    Image.effect_noise((200, 200), 50).convert("RGB").save(jpeg, "JPEG")
    good = [f"good {index}" for index in range(20)]
    for name in good[:10]:
        topics.publish(DIGIT, request_id=name)
    uri = {
        "missing file": (running.folder / "files" / "8.png").as_uri(),
        "file elsewhere": "file:///etc/passwd",
        "forbidden scheme": "ftp://x/y.png",
    }

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
    for name in good[10:]:
        topics.publish(DIGIT, request_id=name)

    reasons = {
        "malformed": "malformed_json",
        "unknown model": "unknown_model",
        "no content": "invalid_request",
        "reply elsewhere": "reply_topic_not_allowed",
    }
    letters = topics.collect(dead, reasons)
    assert {name: letter.attributes["lowtide_reason"] for name, letter in letters.items()} == reasons
    assert letters["malformed"].data == b'{"model": "digits", "data'
    assert "digits" in letters["unknown model"].attributes["lowtide_error"]
    types = {
        "missing file": "not_found",
        "file elsewhere": "forbidden",
        "forbidden scheme": "forbidden",
        "truncated jpeg": "truncated_image",
        "text named jpg": "not_an_image",
        "too many pixels": "image_too_large",
        "9.9 MB": "not_an_image",
    }
    found = bodies(topics.collect(results, [*types, *good, "100 attributes"]))
    assert {found[name]["status"] for name in [*good, "100 attributes"]} == {"ok"}
    failures = {name: result["error"]["type"] for name, result in found.items() if result["status"] == "failed"}
    assert failures == types
    assert all(result["error"]["message"] for result in found.values() if result["status"] == "failed")


WITHOUT_LOWTIDE = """
import base64, json, sys
sys.modules["lowtide"] = None  # as where it is not installed
from celery import Celery

url, digit = sys.argv[1:]
app = Celery("theirs", broker=url, backend=url)
request = {"model": "digits", "data": base64.b64encode(open(digit, "rb").read()).decode()}
print(json.dumps(app.send_task("lowtide.infer", [request], queue="lowtide.digits").get(timeout=100)))
"""

WITH_LOWTIDE = """
import base64, json, sys
from lowtide.tasks import infer, infer_many

request = {"model": "digits", "data": base64.b64encode(open(sys.argv[2], "rb").read()).decode()}
one = infer.delay(request).get(timeout=100)
answers = infer_many([request] * 300, timeout_s=100)
left = [(answers.left, answer.outputs == one) for answer in answers]
print(json.dumps([one, left, sorted({"torch", "google.cloud"} & set(sys.modules))]))
"""


def python(program: str, running: Any) -> Any:
    """What a program of its own prints, given the Redis and a digit."""
    digit = str(running.folder / "files" / "7.png")
    command = [sys.executable, "-c", program, running.env["LOWTIDE_REDIS_URL"], digit]
    done = subprocess.run(command, env={**os.environ, **running.env}, capture_output=True, text=True, timeout=PROGRAM_S)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_process_that_cannot_import_lowtide_calls_by_name(running) -> None:
    assert python(WITHOUT_LOWTIDE, running)[0]["label"] == "2"


def test_a_process_with_lowtide_calls_once_and_hundreds_of_times_and_loads_neither_torch_nor_google(running) -> None:
    one, left, heavy = python(WITH_LOWTIDE, running)

    assert one[0]["label"] == "2"
    assert left == [[299 - index, True] for index in range(300)]
    assert heavy == []


THEIRS = """
import os
from celery import Celery
from redis import Redis

url = os.environ["LOWTIDE_REDIS_URL"]
app = Celery("theirs", broker=url, backend=url)
app.conf.task_default_queue = "web"

@app.task(name="theirs.label")
def label(outputs):
    return outputs[0]["label"]

@app.task(name="theirs.total")
def total(outputs):
    return [one[0]["label"] for one in outputs]

@app.task(name="theirs.note")
def note(given):
    Redis.from_url(url).rpush("notes", str(given))
"""

CANVAS = """
import base64, json, sys
from celery import chain, chord, group
from redis import Redis
from theirs import app, label, note, total, url
from lowtide.tasks import RequestFailed, infer

request = {"model": "digits", "data": base64.b64encode(open(sys.argv[2], "rb").read()).decode()}
bad = {"model": "digits", "data": "AAAA"}
got = [
    chain(infer.s(request), label.s()).apply_async().get(timeout=100),
    chain(infer.s(request), app.signature("theirs.label"), infer.si(request), label.s()).apply_async().get(timeout=100),
    chain(label.s([{"label": "0"}]), infer.si(request), label.s()).apply_async().get(timeout=100),
    chord([infer.s(request), infer.s(request)])(total.s()).get(timeout=100),
    chain(infer.s(request), group(label.s(), label.s())).apply_async().get(timeout=100),
    total(group(infer.s(request), infer.s(request)).apply_async().get(timeout=100)),
]
with Redis.from_url(url) as redis:
    ok = infer.apply_async([request], link=note.si("linked"))
    first = redis.blpop("notes", 100)[1].decode()
    failed = infer.apply_async([bad], link_error=note.s())
    second = redis.blpop("notes", 100)[1].decode() == failed.id
    named = {"args": [request], "queue": "lowtide.digits", "link": note.si("linked")}
    app.send_task("lowtide.infer", headers={"lowtide-callbacks": {"*": "web"}}, **named)
    third = redis.blpop("notes", 100)[1].decode()
    app.send_task("lowtide.infer", **named)
    fourth = redis.brpop("celery", 100) is not None
    left = sorted(key.decode() for key in redis.scan_iter("lowtide*"))
print(json.dumps([got, first, second, third, fourth, left]))
"""


def test_callbacks_run_in_the_application_that_asked_for_them(running, topics) -> None:
    (running.folder / "theirs.py").write_text(THEIRS)
    running.env["PYTHONPATH"] = str(running.folder)
    celery = (sys.executable, "-m", "celery", "-A", "theirs", "worker")
    running.start("theirs", "-P", "threads", "-c", "2", "-Q", "web", command=celery)
    got, first, second, third, fourth, left = python(CANVAS, running)
    running.kill("theirs")

    assert got == ["2", "2", "2", ["2", "2"], ["2", "2"], ["2", "2"]]
    assert (first, second, third, fourth) == ("linked", True, "linked", True)
    assert left == [], "nothing may lie where nobody reads"


def test_flower_shows_chunks_of_both_doors_without_their_content_and_may_only_look(running, topics) -> None:
    port = steady_port()
    running.start("flower", "flower", LOWTIDE_FLOWER_PORT=str(port), FLOWER_UNAUTHENTICATED_API="true")
    flower = f"http://127.0.0.1:{port}"
    until(lambda: get(f"{flower}/healthcheck") == b"OK", what="Flower's start")
    results = topics.listen("lowtide-results")
    stock = Celery("stock", broker=running.env["LOWTIDE_REDIS_URL"], backend=running.env["LOWTIDE_REDIS_URL"])
    until(lambda: b"lowtide@" in get(f"{flower}/api/workers?refresh=1"), what="a worker in Flower")

    for index in range(8):
        topics.publish(DIGIT, request_id=str(index))
    topics.publish(b"text", request_id="bad", model="digits")
    topics.collect(results, [*map(str, range(8)), "bad"])
    request = {"model": "digits", "data": base64.b64encode(DIGIT).decode()}
    assert stock.send_task("lowtide.infer", [request], queue="lowtide.digits").get(timeout=100)[0]["label"] == "2"
    stock.backend.result_consumer.stop()
    stock.close()

    def tasks() -> list[dict[str, Any]]:
        return list(json.loads(get(f"{flower}/api/tasks")).values())

    both = {("lowtide.infer", "SUCCESS"), ("lowtide.infer_chunk", "SUCCESS")}
    until(lambda: {(t["name"], t["state"]) for t in tasks()} == both, what="both in Flower")
    chunks = [task for task in tasks() if task["name"] == "lowtide.infer_chunk"]
    assert all(task["args"].startswith("digits × ") and task["runtime"] > 0 for task in chunks)
    assert any("1 failed" in task["result"] for task in chunks)
    assert {task["args"] for task in tasks() if task["name"] == "lowtide.infer"} == {"digits × 1"}

    def prefetch() -> list[int]:
        workers = json.loads(get(f"{flower}/api/workers?refresh=1") or "{}").values()
        return [worker["stats"]["prefetch_count"] for worker in workers]

    until(lambda: prefetch() == [64], what="the worker's prefetch")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(f"{flower}/api/worker/shutdown/any", method="POST")


def get(url: str, *, method: str = "GET") -> bytes:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as answer:
            return answer.read()
    except urllib.error.HTTPError:
        raise
    except OSError:
        return b""
