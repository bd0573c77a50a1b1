"""The scripts do in every Redis server of this machine what the model of held tasks says: random walks through it."""

import json
import random

import pytest
from redis import Redis

from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.held.ledger import HeldTask
from lowtide.tasks.held.moves import Moves, Took
from lowtide.tasks.held.room import Budget, Turns
from lowtide.tasks.redis.keys import Keys
from tests.integration.bare_fleet import PREFIX, Server
from tests.unit.tasks.held.held_model import Model
from tests.unit.tasks.held.held_state import Incarnation, Move, State

KEYS = Keys(PREFIX)
WALKS, STEPS, FAULTS = 60, 60, 8
MODEL = Model(messages=2, faults=FAULTS)
ELSEWHERE = ["start", "begin", "store", "learn", "CRASH", "HANDED", "SET", "PAUSED", "CLOCK", "STARTED", "FULL"]
"""Words of what changes none of the keys that are looked at."""


class World:
    """A Redis, and what processes know of it. `seen`: an incarnation's last beat."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.moves = Moves(redis, KEYS)
        self.heartbeat = Heartbeat(redis, KEYS, kind="worker")
        self.seen: dict[int, float] = {}
        self.tags: dict[tuple[int, int], str] = {}
        self.sent = 0
        redis.config_set("maxmemory", 0)
        redis.flushall()
        for m in range(MODEL.messages):
            self.send(m)

    def send(self, m: int) -> None:
        self.sent += 1
        sent = {"body": "", "headers": {"id": str(m)}, "properties": {"delivery_tag": f"tag{self.sent}"}}
        self.redis.lpush(list_of(m), json.dumps(sent))

    def step(self, word: str, old: State, new: State) -> None:
        """Take the step of the model in Redis."""
        if new.full and not old.full:
            self.redis.config_set("maxmemory", 1)
        if word == "FLUSHALL":
            self.redis.flushall()
        elif "PURGED" in word:
            self.redis.delete(list_of(int(word.split()[2][0])))
        elif word.startswith("sender: send"):
            self.send(int(word.split()[2]))
        elif word.endswith("register") or "register, UNANSWERED" in word:
            assert self.beat(new.born - 1, registers=True)
        elif not any(name in word for name in ELSEWHERE):
            self.of_worker(word, old, new)
        if "take" in word and "SET BACK" in word:
            self.took(changed(old, new), message_of(word), self.redis.lindex(list_of(message_of(word)), -1))
        if old.full and not new.full:
            self.redis.config_set("maxmemory", 0)

    def of_worker(self, word: str, old: State, new: State) -> None:
        if "sweeper" in word or "predecessor" in word:
            self.sweep(changed(old, new), old)
        elif ": beat" in word:
            self.beats(current(old, word), refused="refused" in word)
        elif "take, refused" in word:
            assert self.take(current(old, word), 0) is None
        elif "take" in word:
            one = current(old, word)
            [taken] = (self.take(one, message_of(word)) or Took()).messages
            self.took(one, message_of(word), taken.raw)
        elif "STANDS STILL" in word:
            one = current(old, word)
            self.seen[one.name] = self.redis.zscore(KEYS.workers, name_of(one.name)) or 0.0
        elif "ENDS" in word:
            self.leaves(word, old)
        else:
            self.release(word, changed(old, new))

    def beat(self, name: int, *, registers: bool) -> bool:
        return self.heartbeat._say(name_of(name), registers=registers)

    def beats(self, one: Incarnation, *, refused: bool) -> None:
        assert self.beat(one.name, registers=False) is not refused
        if one.name in self.seen and not refused:  # whoever thought that it is gone finds that it is not
            assert self.moves.sweep(name_of(one.name), self.seen.pop(one.name), most=1) == (0, False)

    def leaves(self, word: str, old: State) -> None:
        leaving = [one for one in old.incarnations if one.current and one.lives and one.slot == slot_of(word)]
        for one in leaving:
            self.heartbeat._incarnation = name_of(one.name)  # as if it had registered by itself
            self.heartbeat.stop()

    def take(self, one: Incarnation, m: int) -> Took | None:
        budget = Budget(messages=1, work_s=1)
        return self.moves.take(name_of(one.name), queues=[f"lowtide.m{m}"], seconds=[0], budget=budget, turns=Turns(1))

    def took(self, one: Incarnation, m: int, raw: bytes) -> None:
        self.tags[one.name, m] = json.loads(raw)["properties"]["delivery_tag"]

    def release(self, word: str, one: Incarnation | None) -> None:
        if one is None:
            return  # a repeated one, of which nothing is known any more
        name, m = name_of(one.name), message_of(word)
        held = HeldTask(incarnation=name, tag=self.tags[one.name, m], task=str(m), model=None, requests=1)
        if ": ack" in word:
            self.moves.acknowledge(name, [held])
        else:
            self.moves.hand_back(name, [held.tag])

    def sweep(self, one: Incarnation, old: State) -> None:
        score = self.redis.zscore(KEYS.workers, name_of(one.name))
        assert score is not None
        beat = self.seen[one.name] if one.lives and one.registration == "registered" else score
        self.moves.sweep(name_of(one.name), beat, most=1)

    def looks_like(self, state: State) -> bool:
        """Redis has what the model says."""
        register = {name.decode(): score for name, score in self.redis.zrange(KEYS.workers, 0, -1, withscores=True)}
        registrations = {name: "registered" if score else "given up" for name, score in register.items()}
        held = {
            name_of(one.name): sorted(entry.split(b"\n")[1] for entry in self.redis.hvals(KEYS.held(name_of(one.name))))
            for one in state.incarnations
        }
        holders = [(name.decode(), int(task)) for task, name in self.redis.hgetall(KEYS.holders).items()]
        return (
            registrations == {name_of(one.name): one.registration for one in state.incarnations if one.registration}
            and held == {name_of(one.name): [str(m).encode() for m in one.held] for one in state.incarnations}
            and sorted(holders) == sorted((name_of(one.name), m) for one in state.incarnations for m in one.holds)
            and [self.redis.llen(list_of(m)) for m in range(MODEL.messages)] == [one.waiting for one in state.messages]
        )


def list_of(m: int) -> str:
    return KEYS.queue(f"lowtide.m{m}")


def name_of(name: int) -> str:
    return f"0a{name}"


def slot_of(word: str) -> int:
    return int(word.split()[1].rstrip(":"))


def message_of(word: str) -> int:
    return int(next(part for part in word.split(": ")[1].replace(",", "").split() if part.isdigit()))


def current(state: State, word: str) -> Incarnation:
    [one] = [one for one in state.incarnations if one.slot == slot_of(word) and one.current and one.lives]
    return one


def changed(old: State, new: State) -> Incarnation | None:
    """The one whose step it was; None when there was nothing to do. That another took its task over is not its step."""
    after = {one.name: one._replace(holds=()) for one in new.incarnations}
    return next((one for one in old.incarnations if after.get(one.name) != one._replace(holds=())), None)


def options(state: State, chance: random.Random) -> list[Move]:
    faults = list(MODEL.faults_of(state)) if chance.random() < 0.25 else []
    return faults or list(MODEL.moves(state))


@pytest.mark.parametrize("seed", range(WALKS))
def test_each_step_of_a_walk_through_the_model_does_in_redis_what_the_model_says(server: Server, seed: int) -> None:
    chance = random.Random(seed)
    world, state, words = World(server.redis), MODEL.start(), []
    for _ in range(STEPS):
        found = options(state, chance)
        word, new = chance.choice(found)
        words.append(word)
        world.step(word, state, new)
        # Of what is held it is the script that chooses what goes back first.
        same = [other for its, other in found if its == word]
        fitting = [other for other in same if world.looks_like(other)]
        assert fitting, "\n".join(words)
        state = fitting[0]
        if MODEL.finished(state):
            break
    world.redis.config_set("maxmemory", 0)
