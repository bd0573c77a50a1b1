"""What this process holds: tasks that were taken and not yet settled, over all its channels and reconnections."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A task that was taken: its delivery tag, its Celery id ("" when it has none), and what it costs."""

    tag: str
    task: str
    model: str | None
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Tags to be acknowledged, and tags to be given back, in the order in which they were taken."""

    done: tuple[str, ...]
    back: tuple[str, ...]


class Ledger:
    """Safe to call from any thread: Celery's loop writes, the toucher reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._settled: dict[str, tuple[Held, bool]] = {}
        self._requests: Counter[str] = Counter()

    def __contains__(self, tag: str) -> bool:
        return tag in self._held

    def __len__(self) -> int:
        return len(self._held)

    def add(self, held: Held) -> None:
        """Note a task that was taken."""
        with self._lock:
            self._remove(held.tag)  # a task that was taken away and came back here counts once
            self._settled.pop(held.tag, None)
            self._held[held.tag] = held
            if held.model:
                self._requests[held.model] += held.requests

    def settle(self, tag: str, *, done: bool) -> None:
        """Its room is free again; what becomes of it in Redis follows with the next `settled`. Idempotent."""
        with self._lock:
            if held := self._remove(tag):
                self._settled[tag] = (held, done)

    def drop(self, tag: str) -> None:
        """Forget a task: Redis has it elsewhere. Idempotent."""
        with self._lock:
            self._remove(tag)

    def settled(self) -> Settled:
        """What is to be written to Redis. Stays here until `written`."""
        with self._lock:
            items = list(self._settled.items())
        return Settled(
            done=tuple(tag for tag, (_, done) in items if done), back=tuple(tag for tag, (_, done) in items if not done)
        )

    def written(self, tags: Iterable[str]) -> None:
        """Forget what Redis has confirmed."""
        with self._lock:
            for tag in tags:
                self._settled.pop(tag, None)

    def everything(self) -> list[Held]:
        """What Redis believes that this process holds: settled but not yet written counts."""
        with self._lock:
            return [*self._held.values(), *(held for held, _ in self._settled.values())]

    def work_s(self, seconds_per_request: Callable[[str], float]) -> float:
        """Estimated device time of all that is held, seconds."""
        with self._lock:
            requests = list(self._requests.items())
        return sum(count * seconds_per_request(model) for model, count in requests if count)

    def _remove(self, tag: str) -> Held | None:
        held = self._held.pop(tag, None)
        if held and held.model:
            self._requests[held.model] -= held.requests
        return held
