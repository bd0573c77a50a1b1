"""Which process uses which setting: what is wrong with the others ends no process."""

from enum import StrEnum


class Process(StrEnum):
    """What reads settings. Whoever is not one of these, `lowtide up` say, uses them all."""

    CALLER = "Python callers"
    WORKER = "worker"
    BRIDGE = "bridge"
    FLOWER = "flower"
    AUTOSCALE = "autoscale"
    COMMAND = "commands"
    """`publish`, `results`, `replay`, `status`."""


_OURS = frozenset(Process) - {Process.CALLER}
_SERVERS = frozenset({Process.WORKER, Process.BRIDGE, Process.AUTOSCALE})
_WORK = frozenset({Process.WORKER, Process.BRIDGE})
_CLOUD = frozenset({Process.BRIDGE, Process.AUTOSCALE, Process.COMMAND})
_FIGURES = frozenset({Process.AUTOSCALE, Process.COMMAND})
_EVERYBODY = frozenset(Process)

_BY_NAME: dict[str, frozenset[Process]] = {
    **dict.fromkeys(("redis_url", "prefix", "callback_queue"), _EVERYBODY),
    "log_level": _OURS,
    **dict.fromkeys(("health_port", "health_address"), _SERVERS),
    "models": _SERVERS | {Process.COMMAND},
    **dict.fromkeys(("grace_s", "stuck_after_s", "metadata_url", "chunk_work_s", "result_max_bytes"), _WORK),
    **dict.fromkeys(("project", "subscription"), _CLOUD),
    **dict.fromkeys(("topic", "results_topic", "dead_letter_topic"), frozenset({Process.BRIDGE, Process.COMMAND})),
    **dict.fromkeys(
        ("reply_topics", "default_model", "chunk_max_requests", "chunk_max_bytes"), frozenset({Process.BRIDGE})
    ),
    **dict.fromkeys(("fleet", "monitoring_host"), _FIGURES),
    **dict.fromkeys(("metrics_port", "metrics_address", "flower_url"), frozenset({Process.AUTOSCALE})),
    **dict.fromkeys(("flower_address", "flower_port", "flower_read_only"), frozenset({Process.FLOWER})),
    "flower_basic_auth": frozenset({Process.FLOWER, Process.AUTOSCALE}),
}
_WORKERS = frozenset({Process.WORKER})


def used_by(setting: str) -> frozenset[Process]:
    """The processes that use a setting, by its field's name. What no row names is the worker's, or the policy's."""
    return _BY_NAME.get(setting, _FIGURES if setting.startswith("fleet_") else _WORKERS)
