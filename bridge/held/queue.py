"""A queue before one step; what is put into it may have a delay."""

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class Queue(Generic[Thing]):
    """`put` from any thread, `take` from one. What was taken counts in `len` and `weight` until its block ends."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, weigh: Callable[[Thing], int] = lambda _: 0
    ) -> None:
        self._clock = clock
        self._weigh = weigh
        self._weight = 0
        self._changed = threading.Condition()
        self._now: deque[Thing] = deque()
        self._later: list[tuple[float, int, Thing]] = []
        self._order = itertools.count()
        self._taken = 0

    def __len__(self) -> int:
        return len(self._now) + len(self._later) + self._taken

    @property
    def weight(self) -> int:
        """What all of it weighs, by `weigh`."""
        return self._weight

    def put(self, things: Iterable[Thing], *, after_s: float = 0.0) -> None:
        """Add things, to be taken after `after_s` at the earliest."""
        things = list(things)
        with self._changed:
            self._weight += self._sum(things)
            if after_s > 0:
                due_s = self._clock() + after_s
                for thing in things:
                    heapq.heappush(self._later, (due_s, next(self._order), thing))
            else:
                self._now.extend(things)
            self._changed.notify()

    @contextmanager
    def take(self, count: int, *, timeout_s: float) -> Iterator[list[Thing]]:
        """Up to `count` things that are due; waits up to `timeout_s` for the first."""
        things = self._take(count, timeout_s)
        try:
            yield things
        finally:
            with self._changed:
                self._taken = 0
                self._weight -= self._sum(things)

    def _take(self, count: int, timeout_s: float) -> list[Thing]:
        deadline_s = self._clock() + timeout_s
        with self._changed:
            while not self._due() and (left_s := deadline_s - self._clock()) > 0:
                self._changed.wait(min(left_s, max(0.001, self._next_s() - self._clock())))
            things = [self._now.popleft() for _ in range(min(count, len(self._now)))]
            self._taken = len(things)
            return things

    def _sum(self, things: Iterable[Thing]) -> int:
        return sum(map(self._weigh, things))

    def _due(self) -> bool:
        while self._later and self._later[0][0] <= self._clock():
            self._now.append(heapq.heappop(self._later)[2])
        return bool(self._now)

    def _next_s(self) -> float:
        return self._later[0][0] if self._later else float("inf")
