"""What `lowtide doctor` looks at. A check yields findings and raises nothing."""

import difflib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.util import find_spec
from typing import Any

from redis import RedisError

from lowtide.config import Settings, SettingsError
from lowtide.config.settings import ENV_PREFIX
from lowtide.tasks.errors import LowtideError
from lowtide.tasks.keys import Keys
from lowtide.tasks.preemption import Metadata, metadata_url
from lowtide.tasks.presence import Kind, live
from lowtide.tasks.store import connect

REDIS_NEEDED = (6, 2)
CLOCK_SKEW_S = 5.0
RETENTION_S = 7 * 24 * 3600
ABSENT: dict[Kind, str] = {
    "bridge": "start one: lowtide bridge",
    "worker": "as it should be if the fleet follows the work and nothing waits; else start one: lowtide worker",
}
KINDS: tuple[Kind, ...] = ("bridge", "worker")


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. `remedy`: what to do."""

    what: str
    verdict: Verdict
    message: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """JSON-ready."""
        return asdict(self)


def ok(what: str, message: str) -> Finding:
    """All is well."""
    return Finding(what=what, verdict=Verdict.OK, message=message)


def warning(what: str, message: str, remedy: str) -> Finding:
    """It works, and is not as it should be."""
    return Finding(what=what, verdict=Verdict.WARNING, message=message, remedy=remedy)


def failed(what: str, message: str, remedy: str) -> Finding:
    """It does not work, or will lose data."""
    return Finding(what=what, verdict=Verdict.FAILED, message=message, remedy=remedy)


def environment() -> Iterator[Finding]:
    """Variables that look like settings and are none. Nothing else tells of a misspelt name."""
    known = {f"{ENV_PREFIX}{name.upper()}" for name in (*Settings.model_fields, "config")}
    for variable in sorted(os.environ):
        if variable.startswith(ENV_PREFIX) and variable not in known:
            close = difflib.get_close_matches(variable, known, n=1)
            remedy = f"did you mean {close[0]}?" if close else "docs/settings.md lists them all"
            yield warning("Settings", f"{variable} is no setting", remedy)


def redis(settings: Settings) -> Iterator[Finding]:
    """Reachable, new enough, keeps what it is told, and agrees about the time.

    INFO says it all; a managed Redis refuses CONFIG.
    """
    what = "Redis"
    client = connect(settings)
    try:
        info: Mapping[str, Any] = client.info()
        skew_s = abs(client.time()[0] - time.time())
    except RedisError as error:
        yield failed(what, f"not reachable: {error}", "start it, or set LOWTIDE_REDIS_URL")
        return
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < REDIS_NEEDED:
        yield failed(what, f"version {version}", "workers need Redis 6.2 or later (BLMOVE)")
    else:
        yield ok(what, f"version {version}")
    if info["aof_enabled"]:
        yield ok(what, "appendonly yes")
    else:
        yield warning(what, "appendonly no: a restart loses what Python callers sent", "CONFIG SET appendonly yes")
    policy = info["maxmemory_policy"]
    if policy == "noeviction":
        yield ok(what, "maxmemory-policy noeviction")
    else:
        yield failed(what, f"{policy}: Redis may drop tasks when full", "CONFIG SET maxmemory-policy noeviction")
    if skew_s > CLOCK_SKEW_S:
        yield warning(what, f"its clock differs from ours by {skew_s:.0f} s", "synchronise clocks: expiry goes wrong")


def pubsub(settings: Settings) -> Iterator[Finding]:
    """Topics and subscriptions are there, keep messages, and leave dead letters to the bridge."""
    what = "Pub/Sub"
    if not settings.subscription:
        yield ok(what, "LOWTIDE_SUBSCRIPTION is empty: only Python callers are served")
        return
    if settings.project is None:
        yield warning(what, "no project: only Python callers are served", "set LOWTIDE_PROJECT")
        return
    if find_spec("google.pubsub_v1") is None:
        yield warning(what, "not looked at", 'pip install "lowtide[bridge]"')
        return
    # The bridge's extra may be absent.
    from lowtide.bridge.create import PubsubMissing, check_exists, subscriptions_of
    from lowtide.bridge.pubsub import address

    try:
        check_exists(settings)
        found = subscriptions_of(settings)
    except PubsubMissing as error:
        yield failed(what, str(error), "lowtide bridge --create-only")
        return
    except LowtideError as error:
        yield failed(what, str(error), "start it, or correct PUBSUB_EMULATOR_HOST, LOWTIDE_PROJECT or the credentials")
        return
    yield ok(what, f"at {address()}, project {settings.project}")
    for name, subscription in found.items():
        complaints = list(_subscription(subscription))
        yield from complaints or [ok(what, f"{name} keeps what it gets")]


def _subscription(subscription: Any) -> Iterator[Finding]:
    what = f"Pub/Sub {subscription.name}"
    if subscription.expiration_policy.HasField("ttl"):
        yield warning(what, "expires when nobody reads for a while", "set its expiration to never")
    if subscription.dead_letter_policy.dead_letter_topic:
        yield failed(
            what, "has a dead-letter policy, which counts preemptions as failures", "remove it: the bridge dead-letters"
        )
    if subscription.enable_message_ordering:
        yield failed(what, "orders messages: one slow request blocks its key", "make one without ordering")
    if subscription.message_retention_duration.seconds < RETENTION_S:
        yield warning(what, "keeps messages for less than 7 days", "set its retention to 7 days")


def fleet(settings: Settings) -> Iterator[Finding]:
    """Who is alive."""
    redis_client, keys = connect(settings), Keys.of(settings)
    wanted = [kind for kind in KINDS if kind != "bridge" or settings.subscription]
    for kind in wanted:
        try:
            names = live(redis_client, keys, kind)
        except RedisError:
            return
        if names:
            yield ok("Fleet", f"{len(names)} {kind}{'s' if len(names) > 1 else ''}: {', '.join(names)}")
        else:
            yield warning("Fleet", f"no {kind} is alive", ABSENT[kind])


def preemption(settings: Settings) -> Iterator[Finding]:
    """Whether notices that this machine is about to vanish would be heard."""
    what = "Preemption"
    url = metadata_url(settings)
    if url is None:
        yield ok(what, "no notices are read: not a Compute Engine VM, or LOWTIDE_METADATA_URL=none")
        return
    try:
        notice = Metadata(url).announced()
    except OSError as error:
        yield warning(what, f"{url} does not answer: {error}", "correct LOWTIDE_METADATA_URL")
        return
    if notice:
        yield warning(what, f"{notice}: nothing is served here any more", "wait for another machine")
    else:
        yield ok(what, f"notices are read from {url}; none stands")


def models(settings: Settings) -> Iterator[Finding]:
    """Devices, and whether every model can be built and its weights found."""
    if find_spec("torch") is None:
        yield warning("Models", "not looked at: torch is not installed", 'pip install "lowtide[worker]", on workers')
        return
    import torch  # the worker's extra may be absent

    from lowtide.workers.registry import build_models

    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
        yield ok("Devices", f"{torch.cuda.device_count()} × {', '.join(sorted(names))}")
    else:
        yield warning(
            "Devices", "no CUDA device: workers run on the CPU", "install the NVIDIA driver, if there is a GPU"
        )
    try:
        built = build_models(settings)
    except SettingsError as error:
        yield failed("Models", str(error), "correct LOWTIDE_MODELS")
        return
    for name, model in built.items():
        try:
            model.load(torch.device("cpu"))
        except Exception as error:  # noqa: BLE001 (a user's model may raise anything)
            yield failed("Models", f"{name} does not load: {error}", f"correct LOWTIDE_WEIGHTS for {name}")
        else:
            yield ok("Models", f"{name}, version {model.version}")
