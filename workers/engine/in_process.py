"""The requests that this process has taken and not resolved: each is resolved once, whoever comes first."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

from lowtide.config.process.health import Progress
from lowtide.tasks.errors import EngineStopped
from lowtide.tasks.wire.outcome import Outcome
from lowtide.workers.engine.job import Job
from lowtide.workers.engine.retries import Retries, Retrying

STOPPING = "the worker stops before this request was done"


class InProcess:
    """Counts what is in process, resolves futures, and gives up on the rest. Safe from any thread."""

    def __init__(self, progress: Progress, *, note: Callable[[str, Outcome], bool]) -> None:
        """`note` is told of each outcome and its model. When it says False, the request is handed back instead."""
        self._progress = progress
        self._note = note
        self._jobs: set[Job] = set()
        self._lock = threading.Lock()
        self._empty = threading.Condition(self._lock)
        self._done: Counter[str] = Counter()
        self._retries = Retries()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def done(self) -> dict[str, int]:
        """Status → requests that ended with it since the process began."""
        return {str(status): count for status, count in self._done.copy().items()}

    @property
    def retrying(self) -> Retrying | None:
        """What failed lately so that another try may help."""
        return self._retries.recent()

    def add(self, jobs: Iterable[Job]) -> None:
        """Take jobs in."""
        with self._lock:
            if not self._jobs:
                self._progress.moved()  # idle until now: the time allowed begins
            self._jobs.update(jobs)

    def resolve(self, job: Job, outcome: Outcome) -> None:
        """Resolve the job's future, unless it was given up."""
        if job not in self._jobs:
            return
        if not self._note(job.request.model, outcome):
            self.hand_back([job], why="another worker may answer what this one fails")
        elif self._remove(job, ended=outcome.status):
            self._retries.note(outcome)
            job.future.set_result(outcome)

    def bring(self, job: Job, content: bytes) -> None:
        """Resolve the job's future with its content, which was all that was wanted, unless it was given up."""
        if self._remove(job):
            job.future.set_result(content)

    def abandon(self, why: str = STOPPING) -> int:
        """Hand everything back that is left; returns how many that were."""
        with self._lock:
            jobs = list(self._jobs)
        return self.hand_back(jobs, why=why)

    def hand_back(self, jobs: Iterable[Job], *, implicated: bool = False, why: str = STOPPING) -> int:
        """Resolve these with EngineStopped, unless that is done already; returns how many that were."""
        with self._lock:
            left = [job for job in jobs if job in self._jobs]
            self._jobs.difference_update(left)
            if not self._jobs:
                self._empty.notify_all()
        for job in left:
            job.future.set_exception(EngineStopped(why, implicated=implicated))
        return len(left)

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait until nothing is in process; False when that takes too long."""
        until_s = time.monotonic() + timeout_s
        with self._lock:
            while self._jobs:
                if (left_s := until_s - time.monotonic()) <= 0:
                    return False
                self._empty.wait(left_s)
            return True

    def _remove(self, job: Job, *, ended: str | None = None) -> bool:
        with self._lock:
            if job not in self._jobs:
                return False
            self._jobs.remove(job)
            if ended:
                self._done[ended] += 1
            self._progress.moved()
            if not self._jobs:
                self._empty.notify_all()
            return True
