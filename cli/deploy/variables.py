"""The settings as variables of deploy/terraform: the policy, Pub/Sub, metrics, and what processes are told.

Pure. Each variable's description is in deploy/terraform/variables.tf.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lowtide.autoscaling.policy.from_settings import policy_of
from lowtide.config import Settings, SettingsError
from lowtide.config.given import ENV_PREFIX
from lowtide.config.metrics import FLEET, METRICS

FILE = "lowtide.auto.tfvars.json"
"""terraform reads what ends so by itself, in the root's folder."""

OF_THE_DEPLOYMENT = frozenset(
    {
        "redis_url",  # the control VM's, with a password that Terraform never sees
        "flower_basic_auth",  # Flower listens on loopback there
        "flower_address",
        "flower_port",
        "flower_url",
        "health_address",
        "health_port",
        "metadata_url",
        "metrics_address",
        "metrics_port",
        "monitoring_host",
        "worker_slot",
    }
)
"""Settings that deploy/terraform decides, or that are about the machine on which they were set."""

BUILT_IN = frozenset({"digits"})
"""Models whose weights are in the worker's image."""
NO_DOWNLOAD = ("random", "file://", "gs://")
"""What weights begin with that come from no host beyond Google."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variables:
    """`values` by name, as JSON takes them; `notes` say what they leave to a person."""

    values: dict[str, Any]
    notes: tuple[str, ...]


def variables_of(settings: Settings) -> Variables:
    """What Terraform needs of the settings. Raises SettingsError without a project, and on a policy that Compute Engine
    would refuse.
    """
    pubsub, elsewhere = _pubsub(settings)
    values = {
        "project": settings.require_project(),
        "fleet": settings.fleet,
        "settings": told(settings),
        "grace_s": settings.grace_s,
        "policy": asdict(policy_of(settings)),
        "metrics": {
            metric.type: {
                "display_name": metric.display_name,
                "description": metric.description,
                "unit": metric.unit,
                "labels": [FLEET, *metric.labels],
            }
            for metric in METRICS
        },
        "pubsub": pubsub,
        "worker_buckets": sorted(_buckets(settings)),
        "internet": _needs_internet(settings),
    }
    _check_composed(values)
    return Variables(values=values, notes=(*_notes(settings), *elsewhere))


def changes(before: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each setting that is another than when `before` was written: in a new shell what was exported in
    the last one is gone.
    """
    was, now = before["settings"], values["settings"]
    for name in sorted(was.keys() | now.keys()):
        if was.get(name) != now.get(name):
            old, new = was.get(name, "its default"), now.get(name, "its default")
            yield f"{name} was {old}, and is {new} now"


def told(settings: Settings) -> dict[str, str]:
    """What was set, as the environment of every process of the fleet."""
    kept = {f"{ENV_PREFIX}{name.upper()}" for name in settings.model_fields_set - OF_THE_DEPLOYMENT}
    return {name: text for name, text in settings.environment().items() if name in kept}


def _pubsub(settings: Settings) -> tuple[dict[str, Any], list[str]]:
    """What of Pub/Sub is in the fleet's project, by short names; and a note for each thing that is not."""
    if not settings.subscription:
        nothing = {"has_bridge": False, "topics": [], "subscriptions": {}, "bridge_pulls": [], "bridge_publishes": []}
        return nothing, []
    # The bridge's extra may be absent where only Python callers are served.
    from lowtide.bridge.pubsub.create import wanted

    want = wanted(settings)
    here = f"projects/{settings.require_project()}/"
    topics = [name for name in want.topics if name.startswith(here)]
    subscriptions = {
        name: topic for name, topic in {**want.subscriptions, **want.keepers}.items() if name.startswith(here)
    }
    sent_to = [settings.topic_path(name) for name in _published(settings)]
    elsewhere = sorted({*want.topics, *want.subscriptions, *want.keepers} - {*topics, *subscriptions})
    made = {
        "has_bridge": True,
        "topics": [_short(name) for name in topics],
        "subscriptions": {
            _short(name): _short(topic) if topic in topics else topic for name, topic in subscriptions.items()
        },
        "bridge_pulls": [_short(name) for name in want.subscriptions if name in subscriptions],
        "bridge_publishes": sorted({_short(name) for name in sent_to if name in topics}),
    }
    return made, [f"{name} is of another project: make it there, and let the control VM use it" for name in elsewhere]


def _published(settings: Settings) -> Iterator[str]:
    yield from (settings.results_topic, settings.dead_letter_topic, *settings.reply_topics)


def _check_composed(values: dict[str, Any]) -> None:
    """Terraform composes letters and their accents (NFC). A filter would then no longer name what the exporter writes,
    nor a path the file.
    """
    for name, value in {"LOWTIDE_FLEET": values["policy"], **values["settings"]}.items():
        text = str(value)
        if not unicodedata.is_normalized("NFC", text):
            raise SettingsError(f"{name}: Terraform would write another Unicode form of it (NFC): use that yourself")


def _buckets(settings: Settings) -> set[str]:
    weights = (uri.removeprefix("gs://") for uri in settings.weights.values() if uri.startswith("gs://"))
    return {*(name for name in settings.gs_buckets if name != "*"), *(path.partition("/")[0] for path in weights)}


def _needs_internet(settings: Settings) -> bool:
    """Whether workers fetch content or weights from hosts beyond Google: without weights of their own, torchvision's
    models fetch them from pytorch.org.
    """
    loaded = [
        settings.weights.get(entry, "")
        for entry in settings.models
        if entry in settings.weights or not ("=" in entry or entry in BUILT_IN)
    ]
    return bool(settings.https_hosts) or not all(uri.startswith(NO_DOWNLOAD) for uri in loaded)


def _notes(settings: Settings) -> Iterator[str]:
    if settings.fleet_min:
        yield f"LOWTIDE_FLEET_MIN is {settings.fleet_min}: so many machines are paid for also while nothing waits"
    if any("?" in uri for uri in settings.weights.values()):
        yield "LOWTIDE_WEIGHTS has a URL with a query: if it is signed, Terraform's state and the VMs' metadata hold it"
    if "*" in settings.gs_buckets:
        yield "LOWTIDE_GS_BUCKETS names no bucket: workers read none, only what travels in requests"


def _short(name: str) -> str:
    return name.rpartition("/")[2]
