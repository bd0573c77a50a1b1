"""`python -m tests.drills.caller FIRST PATIENCE_S [delay]`: a Python program that calls by `infer_many`, and with
`delay` by plain `infer.delay` as well.

Says "ready" when it has its first answer, sends until its standard input ends, waits for what is unanswered, and
prints a JSON object of counts.
"""

import itertools
import json
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from celery.exceptions import TimeoutError as NotYet

from lowtide.tasks import infer, infer_many
from tests.drills.request import request_of

MANY_EVERY_S = 0.02
DELAY_EVERY_S = 0.1
DELAYED = 500_000
"""Numbers of `infer.delay` begin so far above those of `infer_many`."""


class Many:
    """One `infer_many` over a stream."""

    def __init__(self, first: int, stopped: threading.Event) -> None:
        self._first = first
        self._stopped = stopped
        self.asked = self.right = self.wrong = 0
        self.error = ""
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _requests(self) -> Iterator[dict[str, Any]]:
        for number in itertools.count(self._first):
            if self._stopped.wait(MANY_EVERY_S):
                return
            self.asked += 1
            yield request_of(number)

    def _run(self) -> None:
        try:
            for answer in infer_many(self._requests()):
                right = answer.outcome.outputs == [self._first + answer.index]
                self.right, self.wrong = self.right + right, self.wrong + (not right)
        except Exception as error:  # noqa: BLE001 - whatever ended it is what the drill wants to know
            self.error = repr(error)


class Delayed:
    """Plain `infer.delay`; a call that raises was not accepted, and its caller knows."""

    def __init__(self, first: int, stopped: threading.Event) -> None:
        self._first = first
        self._stopped = stopped
        self.results: list[tuple[int, Any]] = []
        self.refused = 0
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        for number in itertools.count(self._first):
            if self._stopped.wait(DELAY_EVERY_S):
                return
            try:
                self.results.append((number, infer.delay(request_of(number))))
            except Exception:  # noqa: BLE001 - of any kind: not accepted
                self.refused += 1

    def count(self, until_s: float) -> dict[str, int]:
        right = wrong = 0
        for number, result in self.results:
            while True:
                try:
                    outputs = result.get(timeout=max(0.1, until_s - time.monotonic()), disable_sync_subtasks=False)
                except NotYet:
                    break
                except Exception:  # noqa: BLE001 - Redis may be away for a moment: ask again
                    if time.monotonic() > until_s:
                        wrong += 1
                        break
                    time.sleep(0.5)
                else:
                    right, wrong = right + (outputs == [number]), wrong + (outputs != [number])
                    break
        return {"asked": len(self.results), "answered": right, "wrong": wrong, "refused": self.refused}


def main() -> None:
    first, patience_s = int(sys.argv[1]), float(sys.argv[2])
    stopped = threading.Event()
    next(infer_many([request_of(first - 1)]))
    print("ready", flush=True)  # noqa: T201
    many, delayed = Many(first, stopped), Delayed(first + DELAYED, stopped)
    many.thread.start()
    if "delay" in sys.argv:
        delayed.thread.start()
    sys.stdin.read()
    until_s = time.monotonic() + patience_s
    stopped.set()
    many.thread.join(patience_s)
    if delayed.thread.is_alive():
        delayed.thread.join(patience_s)
    counts = {"asked": many.asked, "answered": many.right, "wrong": many.wrong, "error": many.error}
    print(json.dumps({"many": counts, "delay": delayed.count(until_s)}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
