"""What people do with topics and subscriptions by `lowtide`, and what others may have put there."""

import contextlib
import csv
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lowtide.bridge.messages.endings import Endings
from lowtide.bridge.messages.kinds import Received, Translated
from lowtide.bridge.messages.translate import Rules, translate
from lowtide.bridge.pubsub import client as pubsub
from lowtide.bridge.pubsub.client import Pubsub, PubsubUnavailable, PullRequest, message_of
from lowtide.bridge.pubsub.create import create_missing
from lowtide.bridge.pubsub.pulls import Pulls
from lowtide.cli.answers.collect import Collection
from lowtide.cli.answers.reading import Reading
from lowtide.cli.answers.silence import Silence
from lowtide.cli.main import main
from lowtide.cli.sources.sources import find_sources
from lowtide.config import load_settings
from lowtide.tasks.wire.outcome import Outcome, Status
from tests.waiting import until

RESULT = {"request_id": "r1", "model": "m", "status": "ok", "outputs": [{"label": "2"}], "error": None}
FOREIGN = [b"hello from another program", b"\xff\xfe\x00", b"[1, 2]", b'{"a": "\x1b[31m"}', b'{"request_id": 7}']
SOON = ("--timeout", "0.5s")
DEAD = {"lowtide_reason": "no_model", "lowtide_error": "why", "lowtide_attempts": "x", "lowtide_request_id": "r\x1b"}


class World:
    """Topics and subscriptions of our own Pub/Sub, without a fleet."""

    def __init__(self, project: str) -> None:
        self.settings = load_settings(project=project)
        self.pubsub = Pubsub()

    def put(self, topic: str, *datas: bytes, **attributes: str) -> None:
        self.pubsub.publish(self.settings.topic_path(topic), [message_of(data, attributes) for data in datas])

    def take(self, subscription: str) -> list[object]:
        name = self.settings.subscription_path(subscription)
        request = PullRequest(subscription=name, max_messages=1000, return_immediately=True)
        found = self.pubsub._pull(request, timeout=10).received_messages
        self.pubsub.modify_ack_deadline(name, [one.ack_id for one in found], 0)
        return [one.message for one in found]

    def run(self, *arguments: str, code: int = 0) -> Result:
        env = {"LOWTIDE_PROJECT": self.settings.project, "LOWTIDE_REDIS_URL": "redis://127.0.0.1:1/0"}
        result = CliRunner().invoke(main, arguments, env=env)
        assert result.exit_code == code, result.output
        return result


@pytest.fixture
def world(local_pubsub, project: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", local_pubsub.host)
    made = World(project)
    create_missing(made.settings)
    yield made
    made.pubsub.close()


def test_what_others_write_is_told_of_and_hides_no_result_and_repeats_none(world: World) -> None:
    answers = [json.dumps({**RESULT, "request_id": f"r{number}"}).encode() for number in range(3)]
    world.put("lowtide-results", answers[0], *FOREIGN, *answers[1:])

    first = world.run("results", *SOON)
    again = world.run("results", "--max", "1", "--timeout", "1s", code=1)
    dropped = world.run("results", *SOON, "--drop-foreign")

    assert first.stdout.splitlines() == [f"ok      m  r{number}  2" for number in range(3)]
    for told in (first.stderr, again.stderr, dropped.stderr):
        assert told.count("is no result") == len(FOREIGN)
        assert "\x1b" not in told
    why = again.stderr.rpartition("Error: ")[2]
    assert why.startswith("0 of 1 results came, then none for 1 s: Redis")
    assert "what can't have a result is a dead letter: `lowtide replay --dry-run` lists them" in why
    assert not again.stdout
    assert not dropped.stdout
    assert not world.take("lowtide-results")


@pytest.mark.parametrize("command", ["results", "replay"])
def test_a_pubsub_that_takes_calls_and_answers_none_is_not_an_empty_one(
    world: World, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    assert "Error" not in world.run(command, *SOON).stderr
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{mute.getsockname()[1]}")
        monkeypatch.setattr(pubsub, "CALL_S", 0.5)
        run = world.run(command, *SOON, code=1)

    assert "Error: DEADLINE_EXCEEDED: Pub/Sub at 127.0.0.1:" in run.stderr


def test_what_is_delivered_again_is_not_seen_again(world: World) -> None:
    world.put("lowtide-results", b"kept", b"read")
    name = world.settings.subscription_path("lowtide-results")
    silence = Silence(timeout_s=1.0, look=lambda: "", say=print)
    seen: list[bytes] = []
    with Reading(world.pubsub, name, silence=silence) as one:
        for message in one.messages():
            seen.append(message.data)
            one.done(message, acknowledge=message.data == b"read")
            world.pubsub.modify_ack_deadline(name, [message.ack_id], 0)

    assert sorted(seen) == [b"kept", b"read"]
    assert [message.data for message in world.take("lowtide-results")] == [b"kept"]


def test_what_came_while_pubsub_or_this_machine_stood_still_is_read(world: World) -> None:
    class Late(Pubsub):
        def check_answers(self, subscription: str) -> None:
            super().check_answers(subscription)
            if not seen:
                world.put("lowtide-results", b"late")
                until(one._pulls._answered.qsize, what="its answer")

    seen: list[bytes] = []
    name = world.settings.subscription_path("lowtide-results")
    silence = Silence(timeout_s=0.3, look=lambda: "", say=print)
    with contextlib.closing(Late()) as late, Reading(late, name, silence=silence) as one:
        for message in one.messages():
            seen.append(message.data)
            one.done(message, acknowledge=True)

    assert seen == [b"late"]


def test_dead_letters_are_shown_as_what_they_are_and_stay(world: World) -> None:
    world.put("lowtide-dead-letters", json.dumps(RESULT).encode(), b"\xff\xd8jpeg", **DEAD)

    shown = world.run("results", *SOON, "--subscription", "lowtide-dead-letters")
    lines = world.run("results", "--subscription", "lowtide-dead-letters", "--json", "--max", "2")

    assert shown.stdout.splitlines() == [r"dead      r\x1b  no_model: why"] * 2
    assert [json.loads(line)["status"] for line in lines.stdout.splitlines()] == ["dead", "dead"]
    assert len(world.take("lowtide-dead-letters")) == 2


def test_what_no_bridge_has_written_is_replayed_only_when_it_is_asked_for(world: World) -> None:
    world.put("lowtide-dead-letters", b"letter", **DEAD)
    world.put("lowtide-dead-letters", b'{"model": "m", "uri": "gs://b/secret"}', lowtide_error="\x1b[31m")

    listed = world.run("replay", *SOON, "--dry-run")
    first = world.run("replay", *SOON, "--json")
    assert [message.data for message in world.take("lowtide-requests")] == [b"letter"]
    world.run("replay", *SOON, "--foreign")

    assert r"no_model                 r\x1b" in listed.stdout
    assert "1 without a reason" in listed.stderr
    assert json.loads(first.stdout)["attempts"] is None
    assert len(world.take("lowtide-requests")) == 2


def test_the_file_of_the_printed_ids_is_not_published(world: World, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    env = {**os.environ, "LOWTIDE_PROJECT": world.settings.project}
    with (tmp_path / "ids").open("wb") as ids:
        command = [sys.executable, "-m", "lowtide.cli", "publish", str(tmp_path), "--model=m"]
        subprocess.run(command, env=env, stdout=ids, timeout=60, check=True)

    assert (tmp_path / "ids").read_text().count("\n") == 1
    assert len(world.take("lowtide-requests")) == 1


def test_a_source_that_can_not_be_published_fails_alone(world: World, tmp_path: Path) -> None:
    for name in ("a.png", "caf\udce9.png", "z.png"):
        (tmp_path / name).write_bytes(b"\x89PNG")
    os.mkfifo(tmp_path / "pipe")
    names = tmp_path / "list"
    names.write_bytes(os.fsencode(tmp_path) + b"/caf\xe9.png\r\nnowhere.png\r\n")

    said = world.run("publish", str(tmp_path), "--model=m", "--from-file", str(names), "--json", code=1)
    plain = world.run("publish", str(tmp_path / "pipe"), str(tmp_path / "a.png"), "--model", "m" * 1100, code=1)

    failed = {one["request_id"]: one["error"] for one in map(json.loads, said.stdout.splitlines()) if "error" in one}
    assert failed["nowhere.png"] == f"nowhere.png: no such file or folder ({names}, line 2)"
    assert failed[f"{tmp_path}/pipe"].endswith("is a pipe, not a file")
    assert len(world.take("lowtide-requests")) == 4, "with the list itself"
    assert not plain.stdout
    assert [line.split()[:2] for line in plain.stderr.splitlines()] == [["not", "published"]] * 2
    assert "INVALID_ARGUMENT" in plain.stderr


def test_a_wait_for_answers_ends_and_says_why_and_is_finished_later(world: World, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"\x89PNG")
    output = tmp_path / "results.jsonl"
    classify = ["classify", str(tmp_path), "--model=m", "--output", str(output), "--timeout", "1s"]

    run = world.run(*classify, code=1)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    kept = world.run(*classify, "--resume", "--retry", "none", code=1)
    misspelt = world.run(*classify, "--resume", "--retry", "no_anwser", code=1)
    retried = world.run(*classify, "--resume", "--retry", "no_answer", "--json", code=1)

    assert {row["error"]["type"] for row in rows} == {"no_answer"}
    assert {row["error"]["message"].partition(":")[0] for row in rows} == {"nothing came for 1 s"}
    assert "Redis (LOWTIDE_REDIS_URL) can't be read from here" in rows[0]["error"]["message"]
    assert f"waiting for {tmp_path}/0.png and 2 more: Redis" in run.stderr
    assert "0 results, 3 failed, 3 were there already" in kept.stdout
    assert "--retry" not in kept.stderr + retried.stderr
    assert "--retry no_anwser: no row has that error type; there are: no_answer (3)" in misspelt.stderr
    assert json.loads(retried.stdout) | {"per_second": 0} == {
        "results": 3,
        "failed": 3,
        "skipped": 0,
        "per_second": 0,
        "output": str(output),
    }
    assert len(output.read_text().splitlines()) == 3
    assert not any("results.jsonl" in row["request_id"] for row in rows)


def test_rows_on_standard_output_are_whole_whatever_it_is_called_and_wherever_it_goes(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "0.png").write_bytes(b"\x89PNG")
    command = [sys.executable, "-m", "lowtide.cli", "classify", str(tmp_path / "0.png"), "--model=m", "--timeout=1s"]
    env = {**os.environ, "LOWTIDE_PROJECT": world.settings.project, "LOWTIDE_REDIS_URL": "redis://127.0.0.1:1/0"}
    with (tmp_path / "redirected").open("wb") as file:
        subprocess.run([*command, "--output=/dev/stdout"], env=env, stdout=file, timeout=60)
    piped = subprocess.run([*command, "--output=/dev/stdout"], env=env, stdout=subprocess.PIPE, timeout=60)

    for written in ((tmp_path / "redirected").read_bytes(), piped.stdout):
        assert [json.loads(row)["error"]["type"] for row in written.splitlines()] == ["no_answer"]


def test_a_fleet_that_answers_others_meanwhile_is_known_to_work(world: World, tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"\x89PNG")
    Impostor(world, 1, answers=False).start()

    run = world.run("classify", str(tmp_path), "--model=m", f"--output={tmp_path}/o.csv", "--timeout=4s", code=1)

    assert "0.png: others' requests are answered meanwhile" in run.stderr


class Unconfirmed(Pubsub):
    """What it acknowledges is acknowledged, and whoever asked for it does not learn that."""

    def acknowledge(self, subscription: str, ack_ids: Sequence[str]) -> None:
        super().acknowledge(subscription, ack_ids)
        raise PubsubUnavailable("UNAVAILABLE", "connection reset")


def test_a_result_is_kept_though_the_confirmation_of_its_acknowledgement_is_lost(world: World, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"\x89PNG")
    Impostor(world, 1).start()
    collection = Collection(
        world.settings, model="m", params={}, local_files=False, timeout_s=10.0, pubsub=Unconfirmed()
    )

    results = list(collection.results(find_sources([str(tmp_path)])))

    assert [result["outputs"] for result in results] == [[{"label": "ours"}]]


def test_what_pubsub_refuses_fails_alone_with_its_words(world: World, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    output = tmp_path / "results.csv"

    run = world.run("classify", str(tmp_path), "--model", "m" * 1100, "--output", str(output), code=1)

    assert "1 refused, such as" in run.stderr
    assert output.read_text().splitlines()[1].startswith(f'{tmp_path}/a.png,,failed,"refused: INVALID_ARGUMENT')


class Impostor(threading.Thread):
    """Answers each request three times: twice as somebody who knows its id, then as the bridge does, which fails on the
    first one and so calls it by the message's id.
    """

    def __init__(self, world: World, count: int, *, answers: bool = True) -> None:
        """`answers`: else the bridge does not."""
        super().__init__(daemon=True)
        self._answers = answers
        self._world = world
        self._left = count
        self._rules = Rules(
            models=frozenset({"m"}), default_model=None, results_topic="lowtide-results", reply_topics={}
        )

    def run(self) -> None:
        subscription = self._world.settings.subscription_path("lowtide-requests")
        pulls = Pulls(self._world.pubsub, [subscription])
        while self._left:
            pulls.ask(self._left)
            for received in pulls.take(0.1) or []:
                self._left -= 1
                self._answer(received, fails=received.attributes["request_id"].endswith("0.png"))
                self._world.pubsub.acknowledge(subscription, [received.ack_id])
        pulls.cancel()

    def _answer(self, received: Received, *, fails: bool) -> None:
        name = received.attributes["request_id"]
        self._world.put("lowtide-results", json.dumps({**RESULT, "request_id": name}).encode(), request_id=name)
        self._world.put("lowtide-results", b"copied", **{"x-lowtide-source": received.attributes["x-lowtide-source"]})
        if not self._answers:
            return
        endings = Endings(self._world.settings)
        if fails:
            letter = endings.of_mistake(received, ValueError(), tries=0).outgoing
        else:
            item = translate(received, self._rules)
            assert isinstance(item, Translated)
            letter = endings.of_outcome(item, Outcome(status=Status.OK, outputs=[{"label": "ours"}])).outgoing
        self._world.put(letter.topic.rpartition("/")[2], letter.data, **letter.attributes)


def test_an_answer_is_the_bridges_own_whatever_it_calls_the_request_and_others_know_of_it(
    world: World, tmp_path: Path
) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"\x89PNG")
    Impostor(world, 3).start()

    world.run("classify", str(tmp_path), "--model=m", "--output", str(tmp_path / "o.csv"), "--timeout", "10s", code=1)

    with (tmp_path / "o.csv").open(newline="") as file:
        rows = {row["filename"].rpartition("/")[2]: (row["prediction"], row["error"]) for row in csv.DictReader(file)}
    assert rows == {"0.png": ("", "internal_error: ValueError"), "1.png": ("ours", ""), "2.png": ("ours", "")}
