import itertools
import threading
from typing import Any

import pytest

from lowtide.cli.answers.silence import WONDER_S, Silence, cause_of, duration, why_silent
from lowtide.config import load_settings

IDLE: dict[str, Any] = {"models": ["m"], "busy": False}


class World:
    """A clock, and what is said."""

    def __init__(self, *, timeout_s: float, causes: list[str]) -> None:
        self.now_s = 100.0
        self.said: list[str] = []
        left = itertools.chain(causes, itertools.repeat(causes[-1]))
        self.silence = Silence(
            timeout_s=timeout_s, look=lambda: next(left), say=self.said.append, clock=lambda: self.now_s
        )

    def after(self, seconds: float) -> bool:
        self.now_s += seconds
        over = self.silence.told(lambda: "a.png and 2 more")
        for thread in threading.enumerate():
            if thread.name == "silence":
                thread.join(5)
        self.silence.told(lambda: "a.png and 2 more")
        return over


def test_what_is_waited_for_is_said_with_the_cause_and_again_when_the_cause_changes() -> None:
    world = World(timeout_s=3600, causes=["no worker", "no worker", "no bridge"])
    world.after(29)
    assert not world.said
    for _ in range(8):
        assert not world.after(15)

    assert [said.partition("; ")[2] for said in world.said] == [
        "waiting for a.png and 2 more: no worker",
        "waiting for a.png and 2 more: no bridge",
    ]


def test_the_same_cause_is_said_every_few_minutes_and_anew_after_an_answer() -> None:
    world = World(timeout_s=3600, causes=["no worker"])
    for _ in range(44):
        world.after(15)
    assert len(world.said) == 3

    world.silence.broken()
    world.after(WONDER_S - 1)
    assert len(world.said) == 3
    world.after(2)
    assert len(world.said) == 4


def test_silence_ends_after_its_time_whatever_was_answered_before() -> None:
    world = World(timeout_s=4, causes=["no worker"])
    assert not world.after(3)
    world.silence.broken()
    assert not world.after(3)
    assert world.after(1)
    assert world.silence.cause == "no worker"


def test_a_look_that_takes_long_holds_nothing_up() -> None:
    goes, looked = threading.Event(), threading.Event()
    clock = itertools.count(0.0, 100.0)

    def look() -> str:
        goes.wait(10)
        looked.set()
        return "late"

    silence = Silence(timeout_s=3600, look=look, say=print, clock=lambda: next(clock))
    assert not silence.told(lambda: "a.png")
    assert not looked.is_set()
    goes.set()


def test_the_newest_of_many_details_is_not_said_with_each_look() -> None:
    world = World(timeout_s=3600, causes=["tried again: gs://b/1.jpg: 503", "tried again: gs://b/2.jpg: 503", "idle"])
    for _ in range(4):
        world.after(15)
    assert [said.rpartition("more: ")[2] for said in world.said] == ["tried again: gs://b/1.jpg: 503", "idle"]


UNFETCHED = "content that can't be fetched just now is tried again, as workers' logs tell"
TRIED_AGAIN = "some requests fail just now and are tried again: "
RETRYING = {"why": "gs://b/1.jpg: 503", "ago_s": 9.0, "count": 2}
NEWER = {"why": "memory is too short", "ago_s": 2.0, "count": 1}


@pytest.mark.parametrize(
    ("bridges", "workers", "said"),
    [
        ([], {}, "no bridge is alive: `lowtide bridge` runs one; nor is any worker"),
        ([], {"w": IDLE}, "no bridge is alive: `lowtide bridge` runs one"),
        (["b"], {}, "no worker is alive"),
        (["b"], {"w": {**IDLE, "models": ["x", "a"]}}, "no worker serves m: served are a, x"),
        (["b"], {"w": {**IDLE, "draining": True}}, "every worker is draining"),
        (["b"], {"w": IDLE, "v": {**IDLE, "busy": True}}, "of 2 workers some work"),
        (["b"], {"w": {**IDLE, "busy": True, "retrying": RETRYING}, "v": IDLE}, TRIED_AGAIN + "gs://b/1.jpg: 503"),
        (["b"], {"w": {**IDLE, "retrying": RETRYING}, "v": {**IDLE, "retrying": NEWER}}, TRIED_AGAIN + "memory"),
        (["b"], {"w": {**IDLE, "retrying": None}}, "1 bridge and 1 worker live and are idle"),
        (["b"], {"w": IDLE}, "1 bridge and 1 worker live and are idle"),
        (["b"], {"w": {}}, f"1 bridge and 1 worker live and are idle: {UNFETCHED}"),
    ],
)
def test_the_cause_is_the_first_thing_that_lacks(bridges: list[str], workers: dict[str, Any], said: str) -> None:
    assert cause_of(dict.fromkeys(bridges), workers, "m").startswith(said)


def test_a_redis_that_can_not_be_read_is_said_not_guessed_about() -> None:
    said = why_silent(load_settings(redis_url="redis://127.0.0.1:1/0"), "m")

    assert said.startswith("Redis (LOWTIDE_REDIS_URL) can't be read from here")


@pytest.mark.parametrize(("seconds", "said"), [(4, "4 s"), (90, "90 s"), (1800, "30 min"), (7200, "2 h")])
def test_a_duration_is_said_as_a_person_does(seconds: float, said: str) -> None:
    assert duration(seconds) == said
