"""The threads that fetch: they wait for other machines, so there are many, and they never decode."""

import logging
import time

from lowtide.tasks.errors import ContentError
from lowtide.workers.content.fetch import Fetcher
from lowtide.workers.engine import outcomes
from lowtide.workers.engine.bounded_queue import BoundedQueue
from lowtide.workers.engine.crew import Crew
from lowtide.workers.engine.in_process import InProcess
from lowtide.workers.engine.job import Fetched, Job

log = logging.getLogger(__name__)

FETCH_THREADS = 16
"""One object of 100 KB takes some 50 ms from Cloud Storage: 16 threads bring 300 a second, for a few MB of stacks."""


class FetchThreads:
    """Jobs from one queue, their content into the next. Its crew ends after the queues closed."""

    def __init__(
        self, fetcher: Fetcher, *, jobs: BoundedQueue[Job], fetched: BoundedQueue[Fetched], in_process: InProcess
    ) -> None:
        self._fetcher = fetcher
        self._jobs = jobs
        self._fetched = fetched
        self._in_process = in_process
        self.crew = Crew("fetch", FETCH_THREADS, self._run)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._fetch(job)

    def _fetch(self, job: Job) -> None:
        started_s = time.monotonic()
        if started_s >= job.expires_s:
            self._in_process.resolve(job, outcomes.expired(job))
            return
        try:
            content = self._fetcher.fetch(job.request.uri or "", generation=job.request.generation)
        except ContentError as error:
            fetch_s = time.monotonic() - started_s
            self._in_process.resolve(job, outcomes.without_content(job, error, fetch_s=fetch_s))
            return
        except Exception as error:  # the thread's outermost loop: a URI that a library chokes on must not end it
            log.exception("request %s: its content can't be fetched", job.request.request_id)
            unexpected = ContentError(f"the content can't be fetched: {type(error).__name__}: {error}")
            self._in_process.resolve(job, outcomes.without_content(job, unexpected))
            return
        if job.ahead:
            self._in_process.bring(job, content)
            return
        fetch_s = time.monotonic() - started_s
        self._fetched.put(Fetched(job=job, content=content, fetch_s=fetch_s), urgent=job.urgent)
