"""Everything that a drill runs on: Google's emulator, Redis, and a fleet of real processes that are restarted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
from google.api_core.exceptions import AlreadyExists
from google.cloud import pubsub_v1
from redis import Redis, RedisError

from lowtide.bridge.pubsub.client import PublishRequest, PublishResponse, message_of
from lowtide.config import EMULATOR
from lowtide.local.metadata import MetadataServer
from lowtide.local.redis import EmbeddedRedis
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.registry import live, name_of
from tests.drills import stock
from tests.drills.gate import Gate
from tests.drills.patched import DIE_AT
from tests.drills.proxy import TcpProxy
from tests.drills.storage import Access, TroubledStorage
from tests.fleet import LOWTIDE, READY_S, Fleet
from tests.ports import steady_port
from tests.services import google_emulator
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
PATCHED = (sys.executable, "-m", "tests.drills.patched")
METADATA_URL = "LOWTIDE_METADATA_URL"
SCRATCH = "scratch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a row runs on. `patches` switch protecting pieces off, in every process; `bridge_patches` in bridges.
    `stock`: workers of a stock Celery application on the same Redis.
    """

    workers: int = 2
    bridges: int = 1
    stock: int = 0
    patches: tuple[str, ...] = ()
    bridge_patches: tuple[str, ...] = ()
    preemptible: bool = False
    env: Mapping[str, str] = field(default_factory=dict)


class System:
    """Its life is `start` → faults → `stop`. Workers reach Redis through `proxies`, the bridges Pub/Sub by `gate`."""

    def __init__(self, folder: Path, needs: Needs) -> None:
        self.folder = folder
        self.needs = needs
        self.project = f"drill-{uuid.uuid4().hex[:12]}"
        self.runs = folder / "runs"
        self.redis_port = steady_port()
        self.redis = EmbeddedRedis(folder / "redis", port=self.redis_port)
        self.client = Redis(port=self.redis_port, socket_timeout=5)
        self.proxies = {f"worker-{index}": TcpProxy(self.redis_port) for index in range(needs.workers)}
        self.metadata = {name: MetadataServer() for name in self.proxies}
        storage = TroubledStorage()
        self.accesses = {name: Access(storage) for name in self.proxies}
        self.health_ports = {name: steady_port() for name in self.proxies}
        self._emulator_port = steady_port()
        self._emulator = ExitStack()
        self._host_before = os.environ.get(EMULATOR)
        self._machines = 0

    def start(self) -> None:
        self.runs.mkdir(parents=True)
        self.redis.start()
        self._start_emulator()
        # The user's side, here, is by the emulator itself; only the bridge's is by the gate.
        os.environ[EMULATOR] = self.emulator_host
        self.gate = Gate(self.emulator_host)
        self.gate.start()
        for server in self.metadata.values():
            server.start()
        for proxy in self.proxies.values():
            proxy.start()
        self.fleet = Fleet(self._env(), self.folder)
        self.create_topics()
        for index in range(self.needs.bridges):
            self.start_bridge(f"bridge-{index}")
        for name in self.proxies:
            self.start_worker(name)
        for name in self.stock:
            self.fleet.start(name, command=stock.COMMAND, restart=True)
        self.wait_ready()

    def __enter__(self) -> "System":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        with ExitStack() as stack:
            stack.callback(self._restore_environment)
            stack.callback(self._emulator.close)
            stack.callback(self.redis.stop)
            for server in self.metadata.values():
                stack.callback(server.stop)
            for proxy in self.proxies.values():
                stack.callback(proxy.stop)
            for access in self.accesses.values():
                stack.callback(access.close)
            stack.callback(self.client.close)
            if hasattr(self, "gate"):
                stack.callback(self.gate.stop)
            if hasattr(self, "fleet"):
                stack.callback(self.fleet.stop)

    @property
    def emulator_host(self) -> str:
        return f"127.0.0.1:{self._emulator_port}"

    @property
    def workers(self) -> list[str]:
        return sorted(self.proxies)

    @property
    def bridges(self) -> list[str]:
        return [f"bridge-{index}" for index in range(self.needs.bridges)]

    @property
    def stock(self) -> list[str]:
        return [f"stock-{index}" for index in range(self.needs.stock)]

    @property
    def caller_env(self) -> dict[str, str]:
        """For a Python program that calls, which reaches Redis itself."""
        return {**os.environ, **self._env()}

    def create_topics(self) -> None:
        """As an operator does, by the documented command."""
        subprocess.run([*LOWTIDE, "bridge", "--create-only"], env=self.caller_env, check=True, capture_output=True)

    def die_at(self, bridge: str) -> Path:
        """The file that tells this bridge, and no other, at which moment to die, or to have Redis die."""
        return self.folder / f"{bridge}.die-at"

    def start_bridge(self, name: str) -> None:
        command = self._command((*self.needs.patches, *self.needs.bridge_patches))
        self.fleet.start(name, "bridge", command=command, restart=True, **{DIE_AT: str(self.die_at(name))})

    def exchange_bridges(self, patches: tuple[str, ...]) -> None:
        """Others in their places, with these patches instead."""
        self.needs = replace(self.needs, bridge_patches=patches)
        for name in self.bridges:
            self.fleet.process(name).stop()
            self.start_bridge(name)
        self.wait_ready()

    def start_worker(self, name: str) -> None:
        """A machine of its own, which nobody took part in before: another slot."""
        self._machines += 1
        self.fleet.start(
            name,
            "worker",
            command=self._command(self.needs.patches),
            restart=True,
            LOWTIDE_WORKER_SLOT=f"vm-{self._machines}",
            LOWTIDE_REDIS_URL=f"redis://127.0.0.1:{self.proxies[name].port}/0",
            STORAGE_EMULATOR_HOST=self.accesses[name].url,
            LOWTIDE_HEALTH_PORT=str(self.health_ports[name]),
            **({METADATA_URL: self.metadata[name].url} if self.needs.preemptible else {}),
        )

    def wait_ready(self) -> None:
        """Every worker and bridge has signed in, those that were killed in their new life."""
        until(self._signed_in, within_s=READY_S, what="a ready fleet")

    def previous(self) -> Path:
        """A folder with the release before (`DRILL_PREVIOUS`, a revision; else the commit before this one)."""
        folder = self.folder / "previous"
        if not folder.exists():
            (folder / "lowtide").mkdir(parents=True)
            revision = os.environ.get("DRILL_PREVIOUS", "HEAD~1")
            archive = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True, capture_output=True)
            subprocess.run(["tar", "-x", "-C", folder / "lowtide"], input=archive.stdout, check=True)
        return folder

    def health(self, worker: str) -> tuple[int, str]:
        """What its `/healthz` answers: the code, and the reason."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_ports[worker]}/healthz", timeout=5) as answer:
                return answer.status, ""
        except urllib.error.HTTPError as error:
            return error.code, str(json.load(error)["reason"])

    def exchange(self, name: str, release: Path) -> None:
        """Stop a process in order, and start one of this release in its place."""
        path = str(ROOT) if release == ROOT else f"{release}{os.pathsep}{ROOT}"
        self.fleet.process(name).stop()
        self.fleet.env["PYTHONPATH"] = path
        if name in self.bridges:
            self.start_bridge(name)
        else:
            self.start_worker(name)

    def restart_emulator(self) -> None:
        """It keeps nothing: the topics are made again. It also starts its message ids anew, which Google never does,
        so they are moved beyond those that it has given.
        """
        highest = self._scratch(1)
        self._emulator.close()
        self._start_emulator()
        self.create_topics()
        while self._scratch(1000) <= highest:
            pass

    def empty_redis_folder(self) -> None:
        """While Redis is away. It keeps a file, or from version 7 on a folder of files."""
        shutil.rmtree(self.folder / "redis")

    @property
    def redis_log(self) -> Path:
        """The file to which Redis appends what it does."""
        return max((self.folder / "redis").rglob("appendonly*.aof"), key=lambda file: file.stat().st_mtime_ns)

    def kill_redis(self) -> None:
        pid = self.redis.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        self.redis.stop()

    def _command(self, patches: tuple[str, ...]) -> tuple[str, ...]:
        return (*PATCHED, ",".join(patches)) if patches else LOWTIDE

    def _env(self) -> dict[str, str]:
        return {
            "LOWTIDE_REDIS_URL": f"redis://127.0.0.1:{self.redis_port}/0",
            "LOWTIDE_PROJECT": self.project,
            "LOWTIDE_MODELS": "drill=tests.drills.model:Drill",
            "LOWTIDE_DEFAULT_MODEL": "drill",
            EMULATOR: self.gate.host,
            "PYTHONPATH": str(ROOT),
            "DRILL_RUNS": str(self.runs),
            **self.needs.env,
        }

    def _restore_environment(self) -> None:
        if self._host_before is None:
            os.environ.pop(EMULATOR, None)
        else:
            os.environ[EMULATOR] = self._host_before

    def _start_emulator(self) -> None:
        self._emulator.enter_context(google_emulator(self.folder / "emulator.log", port=self._emulator_port))

    def _scratch(self, count: int) -> int:
        """Publish to a topic that nobody reads; the highest id that a message got."""
        with pubsub_v1.PublisherClient() as publisher:
            topic = publisher.topic_path(self.project, SCRATCH)
            with suppress(AlreadyExists):
                publisher.create_topic(name=topic)
        with grpc.insecure_channel(self.emulator_host) as channel:
            publish = channel.unary_unary(
                "/google.pubsub.v1.Publisher/Publish",
                request_serializer=PublishRequest.SerializeToString,
                response_deserializer=PublishResponse.FromString,
            )
            response = publish(PublishRequest(topic=topic, messages=[message_of(b"x", {})] * count))
            return max(map(int, response.message_ids))

    def ready_workers(self) -> list[str]:
        """Those that have signed in. Raises RedisError."""
        alive = {name_of(*worker).rpartition(":")[2] for worker in live(self.client, Keys(""), "worker").items()}
        return [name for name in self.workers if str(self.fleet.process(name).pid) in alive]

    def _signed_in(self) -> bool:
        try:
            workers = self.ready_workers()
            bridges = live(self.client, Keys(""), "bridge")
        except RedisError:
            time.sleep(0.1)
            return False
        running = all(self.fleet.process(name).pid for name in self.bridges)
        return workers == self.workers and running and len(bridges) >= self.needs.bridges
