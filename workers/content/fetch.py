"""Content of a request that names a URI: one source per scheme, up to three tries, within one time."""

import logging
import time
from collections.abc import Callable, Mapping

from lowtide.config import Settings
from lowtide.tasks.errors import ContentError, ContentUnavailable
from lowtide.workers.content.file import FileSource
from lowtide.workers.content.gs import GsSource
from lowtide.workers.content.https import HttpsSource, new_session
from lowtide.workers.content.source import ContentSource

log = logging.getLogger(__name__)

TRIES = 3
PAUSES_S = (0.2, 1.0)
"""Between the tries: a dropped connection is over at once, a server that restarts takes a second."""


class Fetcher:
    """Reads URIs from their sources. Safe to call from any thread."""

    def __init__(
        self, sources: Mapping[str, ContentSource], *, timeout_s: float, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._sources = sources
        self._timeout_s = timeout_s
        self._sleep = sleep

    def fetch(self, uri: str, *, generation: str | None = None) -> bytes:
        """The content of `uri`, in its `generation` if one is named. Raises ContentError, or ContentUnavailable after
        the last try.
        """
        source = self._source(uri)
        until_s = time.monotonic() + self._timeout_s
        for tries, pause_s in enumerate(PAUSES_S, start=1):
            try:
                return source.read(uri, timeout_s=until_s - time.monotonic(), generation=generation)
            except ContentUnavailable as error:
                if time.monotonic() + pause_s >= until_s:
                    raise
                log.debug("try %d of %d: %s", tries, TRIES, error)
                self._sleep(pause_s)
        return source.read(uri, timeout_s=max(until_s - time.monotonic(), 0.001), generation=generation)

    def _source(self, uri: str) -> ContentSource:
        scheme = uri.partition("://")[0].lower() if "://" in uri else ""
        source = self._sources.get(scheme)
        if source is None:
            known = ", ".join(f"{name}://" for name in self._sources)
            raise ContentError(f"{uri} is not allowed: expected a URI that begins with {known}", type="forbidden")
        return source


def sources(settings: Settings) -> dict[str, ContentSource]:
    """The sources that these settings allow, by scheme."""
    most, private = settings.content_max_bytes, settings.https_private_networks
    return {
        "gs": GsSource(buckets=settings.gs_buckets, max_bytes=most),
        "https": HttpsSource(hosts=settings.https_hosts, max_bytes=most, session=lambda: new_session(private)),
        "file": FileSource(roots=settings.file_roots, max_bytes=most),
    }
