"""`python -m tests.drills.caller FIRST PATIENCE_S …`: a Python program that calls by `infer_many`, and if it is told so
by plain `infer.delay` as well, and a stock Celery application by `send_task`.

Says "ready" when it has its first answer, sends until its standard input ends, waits for what is unanswered, and
prints a JSON object of counts.
"""

import itertools
import json
import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import click
from celery.exceptions import TimeoutError as NotYet
from redis import Redis, RedisError

from lowtide.tasks import infer, infer_many
from tests.drills import stock
from tests.drills.request import request_of

DELAY_PER_S = 10.0
DELAYED = 500_000_000
"""Numbers of `infer.delay` begin so far above those of `infer_many`."""
TICK_S = 0.01


class Pace:
    """So many turns a second, until it is stopped and there were `at_least` of them. One that was late catches up."""

    def __init__(self, stopped: threading.Event, *, per_s: float, at_least: int = 0) -> None:
        self._stopped = stopped
        self._per_s = per_s
        self._at_least = at_least
        self.over = threading.Event()

    def __iter__(self) -> Iterator[int]:
        try:
            yield from self._turns()
        finally:
            self.over.set()

    def _turns(self) -> Iterator[int]:
        began_s = time.monotonic()
        for turn in itertools.count():
            while turn > (time.monotonic() - began_s) * self._per_s:
                if self._ends(turn):
                    return
                time.sleep(TICK_S)
            if self._ends(turn):
                return
            yield turn

    def _ends(self, turn: int) -> bool:
        return self._stopped.is_set() and turn >= self._at_least


class Caller(ABC):
    """One way to call, in a thread of its own."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.asked = self.right = self.wrong = self.twice = 0
        self.longest_s = 0.0
        self.error = ""
        self.thread = threading.Thread(target=self._run, daemon=True)

    def counts(self, until_s: float) -> dict[str, Any]:
        """What became of what was asked, by then (monotonic seconds) at the latest."""
        self._wait(until_s)
        return {
            "asked": self.asked,
            "lost": self.asked - self.right - self.wrong,
            "wrong": self.wrong,
            "error": self.error,
            "longest_s": round(self.longest_s, 1),
            "twice": self.twice,
        }

    @abstractmethod
    def _run(self) -> None:
        """Ask at that pace."""

    def _wait(self, until_s: float) -> None:
        """Until everything is answered."""
        self.thread.join(max(0.0, until_s - time.monotonic()))

    def _judge(self, *, right: bool) -> None:
        self.right, self.wrong = self.right + right, self.wrong + (not right)


class Many(Caller):
    """One `infer_many` over a stream."""

    def __init__(self, first: int, pace: Pace) -> None:
        super().__init__(pace)
        self._first = first
        self._sent_s: dict[int, float] = {}

    def _requests(self) -> Iterator[dict[str, Any]]:
        for turn in self.pace:
            self.asked += 1
            self._sent_s[turn] = time.monotonic()
            yield request_of(self._first + turn)

    def _run(self) -> None:
        try:
            for answer in infer_many(self._requests()):
                self._judge(right=answer.outcome.outputs == [self._first + answer.index])
                self.longest_s = max(self.longest_s, time.monotonic() - self._sent_s.pop(answer.index))
        except Exception as error:  # noqa: BLE001 - whatever ended it is what the drill wants to know
            self.error = repr(error)


class Delayed(Caller):
    """Plain `infer.delay`; a call that raises was not accepted, and its caller knows."""

    def __init__(self, first: int, pace: Pace) -> None:
        super().__init__(pace)
        self._first = first
        self._results: list[tuple[int, Any]] = []

    def _run(self) -> None:
        for turn in self.pace:
            try:
                self._results.append((self._first + turn, infer.delay(request_of(self._first + turn))))
            except Exception:  # noqa: BLE001 - of any kind: not accepted
                continue
            self.asked += 1

    def _wait(self, until_s: float) -> None:
        super()._wait(until_s)
        for number, result in self._results:
            self._wait_for(number, result, until_s)

    def _wait_for(self, number: int, result: Any, until_s: float) -> None:
        while True:
            try:
                outputs = result.get(timeout=max(0.1, until_s - time.monotonic()), disable_sync_subtasks=False)
            except NotYet:
                return
            except Exception:  # noqa: BLE001 - Redis may be away for a moment: ask again
                if time.monotonic() > until_s:
                    self._judge(right=False)
                    return
                time.sleep(0.5)
            else:
                self._judge(right=outputs == [number])
                return


class Stock(Caller):
    """`send_task` of the stock application, each of whose tasks notes its number in a list in Redis."""

    def __init__(self, url: str, pace: Pace) -> None:
        super().__init__(pace)
        self._app = stock.app_at(url)
        self._redis = Redis.from_url(url)
        self._sent_s: dict[int, float] = {}
        self._answers = 0
        self._reader = threading.Thread(target=self._read, daemon=True)

    def _run(self) -> None:
        self._reader.start()
        for turn in self.pace:
            self._sent_s[turn] = time.monotonic()
            try:
                self._app.send_task(stock.ANSWER, (turn,))
            except Exception:  # noqa: BLE001 - of any kind: not accepted
                del self._sent_s[turn]
                continue
            self.asked += 1

    def _wait(self, until_s: float) -> None:
        super()._wait(until_s)
        while self._sent_s and time.monotonic() < until_s:
            time.sleep(TICK_S)

    def _read(self) -> None:
        while True:
            try:
                found = self._redis.lrange(stock.ANSWERS, self._answers, self._answers + 999)
            except RedisError:
                found = []
            for number in map(int, found):
                if sent_s := self._sent_s.pop(number, None):
                    self._judge(right=True)
                    self.longest_s = max(self.longest_s, time.monotonic() - sent_s)
                else:
                    self.twice += 1
            self._answers += len(found)
            time.sleep(TICK_S)


@click.command()
@click.argument("first", type=int)
@click.argument("patience_s", type=float)
@click.option("--many-per-s", type=float, default=50.0)
@click.option("--at-least", type=int, default=0, help="Requests by infer_many, however soon the input ends.")
@click.option("--delay", is_flag=True, help="Call infer.delay as well.")
@click.option("--stock-per-s", type=float, default=0.0, help="Tasks of the stock application.")
def main(first: int, patience_s: float, many_per_s: float, at_least: int, delay: bool, stock_per_s: float) -> None:
    stopped = threading.Event()
    next(infer_many([request_of(first - 1)]))
    click.echo("ready")
    callers: dict[str, Caller] = {"many": Many(first, Pace(stopped, per_s=many_per_s, at_least=at_least))}
    if delay:
        callers["delay"] = Delayed(first + DELAYED, Pace(stopped, per_s=DELAY_PER_S))
    if stock_per_s:
        pace = Pace(stopped, per_s=stock_per_s, at_least=round(at_least * stock_per_s / many_per_s))
        callers["stock"] = Stock(os.environ["LOWTIDE_REDIS_URL"], pace)
    for caller in callers.values():
        caller.thread.start()
    sys.stdin.read()
    stopped.set()
    for caller in callers.values():
        while caller.thread.is_alive() and not caller.pace.over.wait(1.0):
            pass
    until_s = time.monotonic() + patience_s
    click.echo(json.dumps({kind: caller.counts(until_s) for kind, caller in callers.items()}))


if __name__ == "__main__":
    main()
