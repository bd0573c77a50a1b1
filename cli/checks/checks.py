"""What `lowtide doctor` looks at. A check yields findings, and raises nothing but SettingsError of a wrong setting."""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from redis import RedisError

from lowtide.cli.checks.findings import Finding, failed, ok, warning
from lowtide.cli.fleet.unread import UnreadReader
from lowtide.cli.terminal import counted
from lowtide.config import Settings, SettingsError
from lowtide.config.process.preemption import Metadata, metadata_url
from lowtide.tasks.errors import LowtideError
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.registry import Kind, live, name_of

RETENTION_S = 7 * 24 * 3600
ABSENT: dict[Kind, str] = {
    "bridge": "start one: lowtide bridge",
    "worker": "as it should be if the fleet follows the work and nothing waits; else start one: lowtide worker",
}
KINDS: tuple[Kind, ...] = ("bridge", "worker")


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
    from lowtide.bridge.pubsub.client import address
    from lowtide.bridge.pubsub.create import PubsubMissing, check_exists, subscriptions_of

    try:
        check_exists(settings)
        found = subscriptions_of(settings)
    except PubsubMissing as error:
        yield failed(what, str(error), "lowtide bridge --create-only")
        return
    except LowtideError as error:
        yield failed(
            what,
            str(error),
            "start it, or correct PUBSUB_EMULATOR_HOST, LOWTIDE_PROJECT, LOWTIDE_SUBSCRIPTION or the credentials",
        )
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
            statuses = live(redis_client, keys, kind)
        except RedisError:
            return
        if statuses:
            names = ", ".join(name_of(*one) for one in statuses.items())
            yield ok("Fleet", f"{counted(len(statuses), kind)}: {names}")
            for incarnation, status in statuses.items():
                if isinstance(status, dict):  # else another program wrote it
                    yield from _ailing(name_of(incarnation, status), status)
        else:
            yield warning("Fleet", f"no {kind} is alive", ABSENT[kind])


def _ailing(name: str, status: Mapping[str, Any]) -> Iterator[Finding]:
    if deaf_to := status.get("deaf_to"):
        yield warning(
            "Fleet",
            f"{name} does not listen to {', '.join(map(str, deaf_to))}: remote control has cancelled it",
            "wait for LOWTIDE_STUCK_AFTER_S, then it does again",
        )
    if why := status.get("suspect"):
        yield warning(
            "Fleet",
            f"{name} is suspect, and takes next to nothing: {why}",
            "look on that machine for what it lacks (access, network, disk), or start another in its place; with it "
            "back, the worker is well by itself within minutes",
        )


def queues(settings: Settings) -> Iterator[Finding]:
    """Tasks for which there is no worker: their callers wait for ever, and nothing else tells."""
    try:
        unread = UnreadReader(connect(settings), settings).read()
    except (RedisError, ValueError):
        return
    for one in unread:
        age = "" if one.oldest_s is None else f", the oldest for {one.oldest_s:,.0f} s"
        waits = "task waits" if one.tasks == 1 else "tasks wait"
        yield warning("Queues", f"{one.name}: {one.tasks:,} {waits} that nobody reads{age}: {one.why}", one.remedy)
    if not unread:
        yield ok("Queues", "every list of tasks is read by workers")


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
    """Devices, and whether every model can be built, its weights found, and its example predicted."""
    if find_spec("torch") is None:
        yield warning("Models", "not looked at: torch is not installed", 'pip install "lowtide[worker]", on workers')
        return
    import torch  # the worker's extra may be absent

    from lowtide.workers.device.outputs import WrongOutputs
    from lowtide.workers.device.runner import Runner
    from lowtide.workers.models.registry import build_models

    cpu = torch.device("cpu")
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
        yield failed("Models", str(error), "correct LOWTIDE_MODELS, or LOWTIDE_WEIGHTS")
        return
    for name, model in built.items():
        try:
            model.load(cpu)
            Runner(cpu).probe(model)
        except WrongOutputs as error:
            yield failed("Models", str(error), "docs/models.md says what predict may give")
        except Exception as error:  # noqa: BLE001 (a user's model may raise anything)
            yield failed("Models", f"{name} does not load: {error}", f"correct LOWTIDE_WEIGHTS for {name}")
        else:
            yield ok("Models", f"{name}, version {model.version}")
