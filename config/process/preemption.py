"""Google's notice that this VM is about to vanish, made a drain: `Preemption` follows it, in one thread.

The metadata server has two keys, both of which answer with a plain word:

- `instance/preempted` turns TRUE when a Spot VM is preempted, 120 s before the shutdown if the instance asks for that,
  else together with it (https://cloud.google.com/compute/docs/instances/spot).
- `instance/maintenance-event` turns from NONE to TERMINATE_ON_HOST_MAINTENANCE one hour before a VM with GPUs is
  stopped, since it can't migrate, and 60 s before another (https://cloud.google.com/compute/docs/gpus/gpu-host-maintenance).
  MIGRATE_ON_HOST_MAINTENANCE is nothing to drain for. The 60 s are only granted to who has read the key since the last
  event (https://cloud.google.com/compute/docs/metadata/getting-live-migration-notice).
"""

import http.client
import logging
import os
import signal
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from lowtide.config import Settings
from lowtide.config.checked import NO_METADATA
from lowtide.config.process.outage import Outage

log = logging.getLogger(__name__)

GOOGLE = "http://metadata.google.internal"
HOST = "GCE_METADATA_HOST"
"""Google's own variable: `host` or `host:port`."""
PRODUCT = Path("/sys/class/dmi/id/product_name")

PREEMPTED = "preempted"
MAINTENANCE = "maintenance-event"
ANNOUNCED = {PREEMPTED: "TRUE", MAINTENANCE: "TERMINATE_ON_HOST_MAINTENANCE"}

WAIT_S = 20
"""How long one request for `preempted` hangs; `maintenance-event` is read between two."""
ANSWER_S = 2.0
AGAIN_S = 2.0


def metadata_url(settings: Settings, *, environ: Mapping[str, str] = os.environ, product: Path = PRODUCT) -> str | None:
    """Where notices are read: LOWTIDE_METADATA_URL, else Google's server on a Compute Engine VM, else nowhere."""
    if settings.metadata_url:
        return None if settings.metadata_url == NO_METADATA else settings.metadata_url.rstrip("/")
    if host := environ.get(HOST):
        return f"http://{host}"
    try:
        return GOOGLE if product.read_text(encoding="utf-8").startswith("Google") else None
    except OSError:
        return None


class Metadata:
    """The metadata server. Every method raises OSError when it does not answer."""

    def __init__(self, url: str, *, wait_s: float = WAIT_S) -> None:
        self._url = url
        self._wait_s = wait_s
        # Never through a proxy: it would tell of its own VM.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._etag: str | None = None

    @property
    def waits(self) -> bool:
        """The next `follow` hangs until something changes, as the server has said of what state it told."""
        return self._etag is not None

    def announced(self) -> str | None:
        """What stands announced now, as a sentence; None as a rule."""
        return self._look(PREEMPTED, {}) or self._look(MAINTENANCE, {})

    def follow(self) -> str | None:
        """The same, as soon as `preempted` changes: at most `wait_s` later."""
        wait_s = str(self._wait_s)
        wait = {"wait_for_change": "true", "timeout_sec": wait_s, "last_etag": self._etag} if self._etag else {}
        return self._look(PREEMPTED, wait) or self._look(MAINTENANCE, {})

    def _look(self, key: str, query: Mapping[str, str]) -> str | None:
        url = f"{self._url}/computeMetadata/v1/instance/{key}?{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})  # noqa: S310 (Settings allow http)
        try:
            with self._opener.open(request, timeout=ANSWER_S + (self._wait_s if query else 0)) as answer:
                value = answer.read(1000).decode("utf-8", "replace").strip()
                if key == PREEMPTED:
                    self._etag = answer.headers["ETag"]
        except http.client.HTTPException as error:
            raise OSError(f"{url}: {error!r}") from error
        return f"instance/{key} is {value}" if value == ANNOUNCED[key] else None


def drain_this_process() -> None:
    """As if the supervisor had asked: one way to stop."""
    os.kill(os.getpid(), signal.SIGTERM)


class Preemption:
    """Its life is `start` → a notice, or `stop`. Without a metadata server it does nothing."""

    def __init__(
        self,
        settings: Settings,
        *,
        on_notice: Callable[[], None] = drain_this_process,
        wait_s: float = WAIT_S,
        again_s: float = AGAIN_S,
    ) -> None:
        self._url = metadata_url(settings)
        self._on_notice = on_notice
        self._wait_s = wait_s
        self._again_s = again_s
        self._stopped = threading.Event()
        self._outage = Outage("notices of preemption can't be read")

    def start(self) -> None:
        """Follow from now on."""
        if self._url:
            # A daemon that nobody joins: its request hangs for longer than a stop may take.
            threading.Thread(target=self._run, args=(self._url,), name="preemption", daemon=True).start()

    def stop(self) -> None:
        """What is announced from now on is nobody's business. Idempotent."""
        self._stopped.set()

    def _run(self, url: str) -> None:
        metadata = Metadata(url, wait_s=self._wait_s)
        while not self._stopped.is_set():
            try:
                notice = metadata.follow()
            except OSError as error:  # now and then the server is away for a second, says its documentation
                self._outage.failed(error)
                self._stopped.wait(self._again_s)
                continue
            self._outage.over()
            if notice and not self._stopped.is_set():
                log.warning("%s: draining", notice)
                self._on_notice()
                return
            if not metadata.waits:
                self._stopped.wait(self._again_s)


def wait_while_announced(
    settings: Settings, *, stopped: Callable[[], bool] = lambda: False, again_s: float = AGAIN_S
) -> None:
    """Return at once, as a rule. While a notice stands wait: a supervisor has started us again on a VM that is about to
    vanish, where work would only be lost, and would do so over and over if we ended.
    """
    url = metadata_url(settings)
    notice = _announced(url) if url else None
    if url is None or notice is None:
        return
    log.warning("%s: waiting without taking work", notice)
    while not stopped() and _announced(url, unknown=notice):
        time.sleep(again_s)
    log.info("done waiting: %s no more, or a stop", notice)


def _announced(url: str, *, unknown: str | None = None) -> str | None:
    try:
        return Metadata(url).announced()
    except OSError:
        return unknown
