"""What this process holds: tasks that were taken and not yet released, over all its channels and reconnections."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldTask:
    """A task that was taken. `incarnation`, `tag`: where Redis has it; `task`: its Celery id, or ""; `model`,
    `requests`: what it costs.
    """

    incarnation: str
    tag: str
    task: str
    model: str | None
    requests: int

    @property
    def delivery(self) -> str:
        """Its delivery tag to Celery. What comes here again, after it was given up, is another delivery."""
        return delivery_of(self.incarnation, self.tag)


def delivery_of(incarnation: str, tag: str) -> str:
    """How Celery calls what `incarnation` holds under `tag`."""
    return f"{incarnation}/{tag}"


def incarnation_of(delivery: str) -> str:
    """By which it was taken."""
    return delivery.partition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """Tasks to be acknowledged, and tasks to be handed back, in the order in which they were taken."""

    done: tuple[HeldTask, ...]
    back: tuple[HeldTask, ...]


class Ledger:
    """What this process holds, by delivery. Safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, HeldTask] = {}
        self._released: dict[str, tuple[HeldTask, bool]] = {}
        self._requests: Counter[str] = Counter()

    def __contains__(self, delivery: str) -> bool:
        return delivery in self._held

    def __getitem__(self, delivery: str) -> HeldTask:
        return self._held[delivery]

    def __len__(self) -> int:
        return len(self._held)

    def add(self, held: HeldTask) -> None:
        """Note a task that was taken."""
        with self._lock:
            self._remove(held.delivery)
            self._released.pop(held.delivery, None)
            self._held[held.delivery] = held
            if held.model:
                self._requests[held.model] += held.requests

    def release(self, delivery: str, *, done: bool) -> None:
        """Its room is free again; what becomes of it in Redis follows with the next `released`. Idempotent."""
        with self._lock:
            if held := self._remove(delivery):
                self._released[delivery] = (held, done)

    def drop(self, delivery: str) -> None:
        """Forget a task: Redis has it elsewhere. Idempotent."""
        with self._lock:
            self._remove(delivery)

    def released(self) -> Released:
        """What is to be written to Redis. Stays here until `written`."""
        with self._lock:
            items = list(self._released.values())
        return Released(
            done=tuple(held for held, done in items if done), back=tuple(held for held, done in items if not done)
        )

    def written(self, released: Iterable[HeldTask]) -> None:
        """Forget what Redis has confirmed."""
        with self._lock:
            for held in released:
                self._released.pop(held.delivery, None)

    def everything(self) -> list[HeldTask]:
        """What Redis believes that this process holds: released but not yet written counts."""
        with self._lock:
            return [*self._held.values(), *(held for held, _ in self._released.values())]

    def work_s(self, seconds_per_request: Callable[[str], float]) -> float:
        """Estimated device time of all that is held, seconds."""
        with self._lock:
            requests = list(self._requests.items())
        return sum(count * seconds_per_request(model) for model, count in requests if count)

    def _remove(self, delivery: str) -> HeldTask | None:
        held = self._held.pop(delivery, None)
        if held and held.model:
            self._requests[held.model] -= held.requests
        return held
