from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from redis import RedisError, ResponseError

from lowtide.tasks.chunks.blob import NEWS
from lowtide.tasks.chunks.dispatch import Dispatch, Looks
from lowtide.tasks.chunks.results import ChunkResult, read_result
from lowtide.tasks.chunks.sending import Chunk

OLD_S, LOOK_S, RENEW_S = 30.0, 15.0, 120.0


class World:
    """Redis, a sender and who keeps the chunks: all of them at once."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.chunks: dict[str, Chunk] = {}
        self.results: list[ChunkResult] = []
        self.emptied = self.refuses_looks = False
        self.error: Exception | None = None
        self.steps: list[tuple[str, tuple[str, ...]]] = []
        self.lost: list[str] = []
        self.anything_missing = False
        self.meanwhile: list[Callable[[], object]] = []
        """Called while chunks are being sent."""
        parts: Any = self
        self.dispatch = Dispatch(
            owner="o",
            sender=parts,
            results=parts,
            lost=parts,
            blobs=parts,
            unanswered=parts,
            looks=Looks(old_s=OLD_S, gone_s=10.0, every_s=LOOK_S, seldom_s=4 * LOOK_S, renew_s=RENEW_S),
            clock=lambda: self.now_s,
        )

    def tend(self, *, after_s: float = 0.0) -> list[tuple[str, tuple[str, ...]]]:
        """What it does."""
        self.now_s += after_s
        self.steps.clear()
        self.dispatch.tend()
        self.dispatch.send_again()
        return self.steps

    # the sender

    def send(self, chunks: Sequence[Chunk], *, again: bool = False, within_task: bool = False) -> None:
        if self.error:
            raise self.error
        if self.meanwhile:
            self.meanwhile.pop(0)()
        how = "send" + " again" * again + " whole" * within_task
        self.steps.append((how, tuple(chunk.task_id for chunk in chunks)))

    # who keeps the chunks

    def waits_for(self, task_id: str) -> bool:
        return task_id in self.chunks

    def chunk_of(self, task_id: str) -> Chunk | None:
        return self.chunks.get(task_id)

    def task_ids(self) -> list[str]:
        return list(self.chunks)

    def queues(self, *, age_s: float) -> Mapping[str, str]:
        return {task: chunk.queue for task, chunk in self.chunks.items() if self.now_s - chunk.sent_at >= age_s}

    def with_content(self) -> list[str]:
        return [task for task in self.chunks if task.startswith("content")]

    # Redis

    def remember_redis(self) -> None:
        pass

    def take(self, timeout_s: float) -> list[ChunkResult]:
        results, self.results = self.results, []
        return results

    def forgot(self) -> bool:
        emptied, self.emptied = self.emptied, False
        return emptied

    def forget(self, task_ids: Sequence[str]) -> None:
        self.steps.append(("forget", tuple(task_ids)))

    def renew(self, task_ids: Sequence[str]) -> None:
        if self.refuses_looks:
            raise ResponseError("NOPERM")
        self.steps.append(("renew", tuple(task_ids)))

    def look(self, queues: Mapping[str, str]) -> list[str]:
        self.steps.append(("look", tuple(queues)))
        if self.refuses_looks:
            raise ResponseError("NOPERM")
        lost, self.lost = self.lost, []
        return lost


@pytest.fixture
def world() -> World:
    return World()


def sent(world: World, *names: str) -> None:
    made = [Chunk(task_id=name, queue="q", requests=(), sent_at=world.now_s) for name in names]
    world.chunks |= {chunk.task_id: chunk for chunk in made}
    world.dispatch.send(made)
    world.tend()


def test_what_redis_does_not_confirm_is_sent_again_until_it_does(world: World) -> None:
    world.error = RedisError("full")
    with pytest.raises(RedisError):
        sent(world, "a", "b")
    assert world.dispatch.behind
    with pytest.raises(RedisError):
        world.tend()
    world.error = None
    assert ("send again", ("a", "b")) in world.tend()
    assert not world.dispatch.behind
    assert world.tend() == []


def test_what_an_emptied_redis_has_forgotten_is_sent_again_and_what_has_its_result_is_not(world: World) -> None:
    sent(world, "a", "b", "c")
    del world.chunks["b"]
    world.emptied = True
    assert world.tend() == [("send again", ("a", "c"))]
    assert world.tend() == []


def test_what_nobody_waits_for_is_not_sent_again(world: World) -> None:
    world.error = RedisError("away")
    with pytest.raises(RedisError):
        sent(world, "a", "b")
    world.error = None
    del world.chunks["a"]
    world.dispatch.drop("a")
    assert ("send again", ("b",)) in world.tend()


def test_content_that_was_lost_goes_again_within_the_task_until_redis_takes_it(world: World) -> None:
    sent(world, "a", "b")
    world.results = [read_result(name, NEWS) for name in "ab"]
    assert world.dispatch.take(0.0) == []
    world.error = RedisError("away")
    with pytest.raises(RedisError):
        world.tend()
    world.error = None
    assert world.tend() == [("send again whole", ("a", "b"))]
    assert world.tend() == []


def test_other_results_are_handed_on(world: World) -> None:
    result = ChunkResult(task_id="a", error="failed")
    world.results = [result]
    assert (world.dispatch.ready, world.dispatch.take(0.0), world.dispatch.ready) == (False, [result], True)


def test_single_tasks_are_looked_for_when_they_are_old_and_more_seldom_while_all_is_in_its_place(world: World) -> None:
    sent(world, "a")
    assert world.tend(after_s=OLD_S) == [("look", ("a",))]
    gaps = []
    for _ in range(4):
        waited_s = 0.0
        while not world.tend(after_s=LOOK_S):
            waited_s += LOOK_S
        gaps.append(waited_s + LOOK_S)
    assert gaps == [2 * LOOK_S, 4 * LOOK_S, 4 * LOOK_S, 4 * LOOK_S]

    world.lost = ["a"]
    world.now_s += 4 * LOOK_S
    assert world.tend() == [("look", ("a",)), ("send again", ("a",))]
    assert world.tend(after_s=LOOK_S) == [("look", ("a",))], "soon again"


def test_what_redis_refuses_of_looks_and_renewals_keeps_nothing_from_being_sent_again(world: World) -> None:
    world.error = ResponseError("NOPERM")
    with pytest.raises(ResponseError):
        sent(world, "content", "b")
    world.refuses_looks = True
    world.error = None
    assert world.tend(after_s=max(OLD_S, RENEW_S)) == [("look", ()), ("send again", ("content", "b"))]


def test_what_is_not_sent_yet_is_not_lost(world: World) -> None:
    world.error = RedisError("full")
    with pytest.raises(RedisError):
        sent(world, "a")
    with pytest.raises(RedisError):
        world.tend(after_s=OLD_S)
    assert world.steps == [("look", ())]


def test_what_is_lost_once_more_while_it_is_sent_again_is_sent_again_once_more(world: World) -> None:
    """Another thread notices it."""
    sent(world, "a", "b")
    world.emptied = True

    def emptied_again() -> None:
        world.emptied = True
        world.dispatch.tend()

    world.meanwhile = [emptied_again]
    assert world.tend() == [("send again", ("a", "b"))] * 2


def test_what_is_answered_while_it_is_sent_again_leaves_nothing(world: World) -> None:
    sent(world, "a", "b")
    world.emptied = True
    world.meanwhile = [lambda: world.chunks.pop("a")]
    assert world.tend() == [("send again", ("a", "b")), ("forget", ("a",))]


def test_content_that_waits_for_workers_is_renewed_in_time_and_no_other(world: World) -> None:
    sent(world, "content", "uri")
    renewed = [step for _ in range(10) for step in world.tend(after_s=RENEW_S / 2) if step[0] == "renew"]
    assert renewed == [("renew", ("content",))] * 5
