"""`gs://`: content from Cloud Storage, as the worker's service account may read it.

The library's own means to point it elsewhere (STORAGE_EMULATOR_HOST) works as always.
"""

import io
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import google.auth.exceptions
import requests
from google.api_core import exceptions as api
from google.cloud import storage

from lowtide.tasks.errors import EMPTY_OBJECT, ContentError, ContentUnavailable
from lowtide.workers.content.source import too_large

SILENCE_S = 10.0
"""Longest wait for a connection, or for the next byte."""

CONNECTIONS = 32
"""More than there are fetch threads: a connection that finds no place in the pool is thrown away after one object."""


def new_client() -> storage.Client:
    """A client with room for every fetch thread's connection."""
    client = storage.Client()
    for scheme in ("https://", "http://"):
        # The library has no parameter for it; its FAQ mounts an adapter, too.
        client._http.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=CONNECTIONS))
    return client


class _Bounded(io.BytesIO):
    """Takes `max_bytes`. Raises ContentError on more."""

    def __init__(self, uri: str, max_bytes: int) -> None:
        super().__init__()
        self._uri = uri
        self._max_bytes = max_bytes

    def write(self, piece: Any, /) -> int:
        """Add a piece."""
        if self.tell() + len(piece) > self._max_bytes:
            raise too_large(self._uri, self._max_bytes)
        return super().write(piece)


class GsSource:
    """Reads objects of `buckets` (`*`: all that the service account may read). The client is made on first use."""

    def __init__(
        self, *, buckets: Iterable[str], max_bytes: int, client: Callable[[], storage.Client] = new_client
    ) -> None:
        self._buckets = frozenset(buckets)
        self._max_bytes = max_bytes
        self._new_client = client
        self._client: storage.Client | None = None
        self._lock = threading.Lock()

    def read(self, uri: str, *, timeout_s: float, generation: str | None = None) -> bytes:
        """The object's content, as it is now or as it was in `generation`."""
        bucket, name = self._allowed(uri)
        try:
            blob = self._connected().bucket(bucket).blob(name, generation=int(generation) if generation else None)
            content = self._download(uri, blob, timeout_s)
        except api.NotFound as error:
            raise _missing(uri, generation) from error
        except (api.Forbidden, api.Unauthorized) as error:
            message = f"{uri}: the worker may not read it: grant its service account roles/storage.objectViewer"
            raise ContentError(message, type="forbidden") from error
        except (api.TooManyRequests, api.ServerError, requests.RequestException) as error:
            raise ContentUnavailable(f"{uri}: {error}") from error
        except google.auth.exceptions.GoogleAuthError as error:
            # The metadata server may be late after boot; and the content is not to blame.
            raise ContentUnavailable(f"{uri}: no credentials: {error}") from error
        except api.GoogleAPICallError as error:
            raise ContentError(f"{uri}: Cloud Storage refuses: {error}", type="not_found") from error
        except ValueError as error:  # of a name that no bucket can have
            raise ContentError(f"{uri} names no object: {error}", type="invalid_uri") from error
        if generation is not None and not content:
            raise ContentError(f"{uri}: generation {generation} is empty", type=EMPTY_OBJECT)
        return content

    def _allowed(self, uri: str) -> tuple[str, str]:
        bucket, _, name = uri.partition("://")[2].partition("/")
        if not bucket or not name:
            raise ContentError(f"{uri} names no object: expected gs://bucket/object", type="invalid_uri")
        if "*" not in self._buckets and bucket not in self._buckets:
            raise ContentError(f"{uri} is not allowed: add its bucket to LOWTIDE_GS_BUCKETS", type="forbidden")
        return bucket, name

    def _download(self, uri: str, blob: storage.Blob, timeout_s: float) -> bytes:
        """At most one byte more than the bound travels, and no more is kept of what unpacks to more: an object may be
        stored as gzip. `Fetcher` tries again.
        """
        content = _Bounded(uri, self._max_bytes)
        silence_s = max(0.001, min(timeout_s, SILENCE_S))
        with suppress(api.RequestRangeNotSatisfiable):  # an empty object has no byte 0
            blob.download_to_file(content, start=0, end=self._max_bytes, checksum=None, timeout=silence_s, retry=None)
        return content.getvalue()

    def _connected(self) -> storage.Client:
        with self._lock:
            if self._client is None:
                self._client = self._new_client()
            return self._client


def _missing(uri: str, generation: str | None) -> ContentError:
    if generation is None:
        hint = "; a generation has a field of its own" if uri.rpartition("#")[2].isdigit() else ""
        return ContentError(f"{uri}: there is no such object{hint}", type="not_found")
    message = f"{uri}: generation {generation} is gone: the object was overwritten or deleted since"
    return ContentError(message, type="not_found")
