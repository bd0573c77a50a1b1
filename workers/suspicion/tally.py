"""`OutcomeTally`: what became of the requests in this process, by model and kind, and of each model's last ones."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable

from lowtide.tasks.wire.outcome import Outcome, Status
from lowtide.workers.suspicion.rule import OF_THE_REQUEST, OK, RECENT, Charge, Counts, charged

KINDS_MAX = 16
"""Of one model: an error's type may be a model's own. What comes later counts as one kind."""
LATER_KINDS = "other"


def kind_of(outcome: Outcome) -> str | None:
    """`OK`, or the type of the error; None when it says nothing of the worker."""
    if outcome.status is Status.OK:
        return OK
    kind = outcome.error.type if outcome.error else str(outcome.status)
    return None if outcome.status is Status.EXPIRED or kind in OF_THE_REQUEST else kind


class OutcomeTally:
    """Safe from any thread. A few µs an outcome."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[str]] = {}
        self._recent: dict[str, deque[str]] = {}
        self._charges: dict[str, Charge] = {}
        self.last_s = clock()
        """Monotonic time of the last outcome."""

    def note(self, model: str, kind: str) -> None:
        """A request of `model` ended."""
        with self._lock:
            counts = self._counts.setdefault(model, Counter())
            known = kind == OK or kind in counts or len(counts) < KINDS_MAX
            kind = kind if known else LATER_KINDS
            counts[kind] += 1
            recent = self._recent.setdefault(model, deque(maxlen=RECENT))
            recent.append(kind)
            if kind != OK or model in self._charges:
                charge = charged(model, recent)
                self._charges = {**self._others(model), **({model: charge} if charge else {})}
            self.last_s = self._clock()

    @property
    def charge(self) -> Charge | None:
        """What the last outcomes of some model amount to."""
        return next(iter(self._charges.values()), None)

    def charge_of(self, model: str) -> Charge | None:
        """What those of this one amount to."""
        return self._charges.get(model)

    def counts(self, model: str) -> Counts:
        """Since the process began."""
        with self._lock:
            return Counts(dict(self._counts.get(model, {})))

    def everything(self) -> dict[str, dict[str, int]]:
        """Model → kind → count since the process began, JSON-ready."""
        with self._lock:
            return {model: dict(counts) for model, counts in self._counts.items()}

    def start_afresh(self) -> None:
        """Forget the last outcomes: others decide about the next charge."""
        with self._lock:
            self._recent.clear()
            self._charges = {}

    def _others(self, model: str) -> dict[str, Charge]:
        return {name: charge for name, charge in self._charges.items() if name != model}
