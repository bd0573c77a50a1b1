"""`Stack`: the whole system on this machine, as the processes that production runs."""

import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from redis import RedisError

from lowtide.autoscaling.export.monitoring import Monitoring
from lowtide.autoscaling.policy.from_settings import policy_of
from lowtide.config import Settings, load_settings
from lowtide.config.addresses import at, host_port
from lowtide.local.group import Event, Group
from lowtide.local.process import ChildProcess, free_port
from lowtide.local.redis import EmbeddedRedis
from lowtide.tasks.errors import LowtideError
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.registry import live
from lowtide.tasks.redis.trouble import trouble_of

log = logging.getLogger(__name__)

LOCAL_PROJECT = "lowtide-local"
READY_POLL_S = 0.05
PUBSUB_START_S = 60.0
CLOUD = ("pubsub", "monitoring")
"""What stands for Google: others need it to the last."""


class StackFailed(LowtideError):
    """Raised when a part of the local stack does not come up. The message holds the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where the parts listen. 0: any free port."""

    redis: int = 0
    pubsub: int = 0
    flower: int = 0


class Stack:
    """Redis, Pub/Sub, a bridge, workers and, if wanted, Flower. Logs and data go to `folder`.

    `workers` None: as many as the fleet's policy wants, by the signal that an exporter writes to a Cloud Monitoring of
    this machine; each starts `boot_s` after it was wanted, one is preempted every `preempt_every_s` (0: none), there
    are `capacity` to be had at once (None: all that are wanted), and `on_event` is told.

    What the settings name is used instead of an own one: `redis_url`, but not by one that is `alone`, and
    `monitoring_host`; and `pubsub_host`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        folder: Path,
        workers: int | None = 1,
        boot_s: float = 0.0,
        preempt_every_s: float = 0.0,
        capacity: int | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
        flower: bool = False,
        ports: Ports | None = None,
        pubsub_host: str | None = None,
        alone: bool = False,
    ) -> None:
        ports = ports or Ports()
        self._folder = folder
        self._workers = workers
        owns_redis = alone or "redis_url" not in settings.model_fields_set
        self._redis = EmbeddedRedis(folder / "redis", port=free_port(ports.redis)) if owns_redis else None
        self._own_pubsub_port = None if pubsub_host else free_port(ports.pubsub)
        owns_monitoring = workers is None and not settings.monitoring_host
        self._monitoring_port = (self._own_pubsub_port or free_port()) if owns_monitoring else None
        self._boot_s = boot_s
        self._preempt_every_s = preempt_every_s
        self._capacity = capacity
        self._on_event = on_event
        self.group: Group | None = None
        self.pubsub_host = pubsub_host or f"127.0.0.1:{self._own_pubsub_port}"
        self.settings = load_settings(
            **{
                **{name: getattr(settings, name) for name in settings.model_fields_set},
                **({} if settings.project else {"project": LOCAL_PROJECT}),
                **({"redis_url": self._redis.url} if self._redis else {}),
                **(self._flower_settings(settings, ports.flower) if flower else {}),
                **self._monitoring_settings(),
                "health_port": 0,  # the first part would have it, and the others would not start
            }
        )
        self._flower = flower
        self._processes: list[ChildProcess] = []

    def _flower_settings(self, settings: Settings, port: int) -> dict[str, object]:
        port = free_port(settings.flower_port if "flower_port" in settings.model_fields_set else port)
        read = {} if settings.flower_url else {"flower_url": f"http://{at(settings.flower_address, port)}"}
        return {"flower_port": port, **read}

    def _monitoring_settings(self) -> dict[str, object]:
        if self._workers is not None:
            return {}
        own = {"monitoring_host": f"127.0.0.1:{self._monitoring_port}"} if self._monitoring_port else {}
        # If only one of the two is ours, Monitoring knows nothing of Pub/Sub: a signal that is missing holds the fleet.
        unknown = {} if bool(self._own_pubsub_port) == bool(self._monitoring_port) else {"fleet_messages": 0}
        return {**own, **unknown}

    def start(self) -> None:
        """Start every part and wait until the fleet answers. Raises StackFailed, RedisMissing."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._redis:
            self._redis.start()
        else:
            self._look_for_redis()
        if self._own_pubsub_port:
            service = "cloud" if self._monitoring_port else "pubsub"
            self._launch("pubsub", f"lowtide.local.{service}", f"--port={self._own_pubsub_port}")
        elif self._monitoring_port:
            self._launch("monitoring", "lowtide.local.cloud", "--no-pubsub", f"--port={self._monitoring_port}")
        self._wait_for_pubsub(PUBSUB_START_S if self._own_pubsub_port else 0.0)
        if self.settings.subscription:
            self._launch("bridge", "lowtide.cli", "bridge", "--create")
        for number in range(self._workers or 0):
            self._launch(f"worker-{number}", "lowtide.cli", "worker")
        if self._workers is None:
            self._launch("autoscale", "lowtide.cli", "autoscale")
            self._start_group()
        if self._flower:
            self._launch("flower", "lowtide.cli", "flower")

    def wait_ready(self, timeout_s: float = 120.0, *, stop: threading.Event | None = None) -> None:
        """Wait until the bridge, if there is a subscription, and every worker have signed in, or `stop` is set.

        Raises StackFailed.
        """
        redis, keys = connect(self.settings), Keys.of(self.settings)
        deadline_s = time.monotonic() + timeout_s
        while not (stop and stop.is_set()):
            self._complain_of_failed_starts()
            try:
                bridged = not self.settings.subscription or live(redis, keys, "bridge")
                if bridged and len(live(redis, keys, "worker")) >= (self._workers or 0):
                    return
            except RedisError as error:
                log.debug("Redis is not ready: %s", error)
            if time.monotonic() > deadline_s:
                raise StackFailed(f"the fleet is not ready after {timeout_s:.0f} s{self._ends_of_logs()}")
            time.sleep(READY_POLL_S)

    def stop(self) -> None:
        """Stop every part, those that others need last, within 25 s and a little. Idempotent."""
        # Bridge and workers at once: what the workers still finish it settles, and what they hand back it hands back.
        ending = threading.Thread(target=self.group.stop) if self.group else None
        if ending:
            ending.start()
        cloud = [process for process in self._processes if process.name in CLOUD]
        for group in ([process for process in self._processes if process not in cloud], cloud):
            for process in group:
                process.terminate()
            for process in group:
                process.join()
            if ending:
                ending.join()
        self._processes.clear()
        if self._redis:
            self._redis.stop()

    def __enter__(self) -> "Stack":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """The environment with which any process joins this system."""
        return {**self.settings.environment(), "PUBSUB_EMULATOR_HOST": self.pubsub_host}

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run, by name, without Redis and the workers of a group."""
        return {process.name: process.pid for process in self._processes if process.pid}

    def _start_group(self) -> None:
        self.group = Group(
            policy_of(self.settings),
            Monitoring(self.settings),
            launch=self._vm,
            boot_s=self._boot_s,
            preempt_every_s=self._preempt_every_s,
            capacity=lambda: self.settings.fleet_max if self._capacity is None else self._capacity,
            on_event=self._on_event,
        )
        self.group.start()

    def _vm(self, name: str, metadata_url: str) -> ChildProcess:
        own = {"LOWTIDE_WORKER_SLOT": name, "LOWTIDE_METADATA_URL": metadata_url}
        return self._process(name, "lowtide.cli", "worker", **own)

    def _launch(self, name: str, *command: str) -> None:
        process = self._process(name, *command)
        self._processes.append(process)
        process.start()

    def _process(self, name: str, *command: str, **own: str) -> ChildProcess:
        """Of a module and its arguments. `own`: variables beside those of all."""
        env, log_path = {**self.environment, **own}, self._folder / f"{name}.log"
        return ChildProcess(name, [sys.executable, "-m", *command], env=env, log_path=log_path)

    def _look_for_redis(self) -> None:
        try:
            connect(self.settings).ping()
        except RedisError as error:
            raise StackFailed(
                f"Redis at LOWTIDE_REDIS_URL can't be used: {trouble_of(error)}; or unset LOWTIDE_REDIS_URL for an "
                "own one"
            ) from error

    def _wait_for_pubsub(self, timeout_s: float) -> None:
        at_host, at_port = host_port(self.pubsub_host)
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._complain_of_failed_starts()
            try:
                socket.create_connection((at_host, at_port), timeout=1).close()
            except OSError as error:
                if time.monotonic() > deadline_s:
                    own = "" if self._own_pubsub_port else "; start it, or unset PUBSUB_EMULATOR_HOST for an own one"
                    raise StackFailed(f"Pub/Sub does not answer at {self.pubsub_host}: {error}{own}") from error
                time.sleep(READY_POLL_S)
            else:
                return

    def _ends_of_logs(self) -> str:
        return "".join(f"; the end of {each.log_path}:\n{each.tail(5)}" for each in self._processes)

    def _complain_of_failed_starts(self) -> None:
        for process in self._processes:
            if process.restarts:  # what ends before it was ready would end again
                raise StackFailed(f"{process.name} does not start; the end of {process.log_path}:\n{process.tail()}")
