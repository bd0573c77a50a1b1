"""`Settings`: one typed, frozen object, read once from the environment and an optional TOML file."""

import os
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator

from lowtide.config import checked, values
from lowtide.config.given import CONFIG, ENV_PREFIX
from lowtide.config.process.memory import memory_bytes
from lowtide.config.text import cleaned, is_utf8
from lowtide.config.values import as_text


class SettingsError(Exception):
    """Raised when a setting is missing or wrong. The message names the environment variable and what to do."""


class Settings(BaseModel):
    """Everything that can be set: each field is `LOWTIDE_<NAME>` in the environment. `docs/settings.md` lists them.

    `load_settings` reads it. A value that is wrong, and that the process which reads does not use, is laid aside:
    whoever asks for it all the same gets a SettingsError.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    _wrong: dict[str, str] = PrivateAttr(default_factory=dict)
    """Setting → what is wrong with it."""

    # Where the parts meet
    redis_url: values.RedisUrl = Field(
        default="redis://localhost:6379/0",
        repr=False,
        description="Redis: broker, results and working memory of one or more fleets. "
        "`redis://[user:password@]host[:port][/db]`, or `rediss://` for TLS: see SECURITY.md.",
    )
    prefix: values.Prefix = Field(
        default="",
        description="Redis key prefix of this fleet, without blanks and without `*`, `?`, `[`, `]`, `^` and "
        "backslashes. Empty, so that a stock Celery app finds the queues.",
    )
    callback_queue: str = Field(
        default="celery",
        min_length=1,
        description="Queue of callbacks (`link`, the rest of a chain, …) that name none and whose caller did not say "
        "which queue is its app's default one.",
    )
    fleet: values.FleetName = Field(
        default="default", description="Name of this fleet in metrics: no quotes, no backslashes."
    )
    fleet_min: int = Field(default=0, ge=0, description="Fewest workers of the fleet. 0: none while nothing waits.")
    fleet_max: int = Field(default=10, ge=0, description="Most workers of the fleet.")
    fleet_work_s: float = Field(
        default=60.0, gt=0, description="Work wanted per worker, seconds of device time: so many more make one more."
    )
    fleet_messages: int = Field(
        default=1_000_000,
        ge=0,
        description="Messages of the first subscription per worker, by Pub/Sub's own metric: a second signal, which "
        "wakes an empty fleet also while `lowtide autoscale` is down. 0: no such signal.",
    )
    fleet_schedules: values.Schedules = Field(
        default=(),
        description="Workers that must be there at certain times, whatever waits: a JSON array of objects with `name`, "
        "`min_required_replicas`, `cron`, `duration_s` and, if wanted, `time_zone` and `disabled`.",
    )
    fleet_scale_in_max: int | None = Field(
        default=None,
        ge=1,
        description="Most workers by which the fleet may be smaller than the most that was recommended within "
        "LOWTIDE_FLEET_SCALE_IN_WINDOW_S. Unset: any number.",
    )
    fleet_scale_in_window_s: int = Field(default=600, gt=0, description="See LOWTIDE_FLEET_SCALE_IN_MAX, seconds.")
    fleet_stabilization_s: int = Field(
        default=600,
        ge=0,
        le=3600,
        description="A fleet shrinks to no less than what was needed within so many seconds.",
    )
    project: values.ProjectId | None = Field(
        default=None, description="Google Cloud project of the topics and subscriptions."
    )
    topic: values.Topic = Field(default="lowtide-requests", description="Topic that requests are published to.")
    subscription: values.Subscriptions = Field(
        default=("lowtide-requests",),
        description="Subscriptions that the bridge pulls, most urgent first. Empty: none, for a fleet that only Python "
        "callers use.",
    )
    results_topic: values.Topic = Field(
        default="lowtide-results", description="Where results go unless a request says else."
    )
    dead_letter_topic: values.Topic = Field(
        default="lowtide-dead-letters", description="Where requests go that can never have a result."
    )
    reply_topics: values.Topics = Field(
        default=(), description="Topics that a request may name as its `reply_topic`. Empty: none but the default."
    )

    # Models
    models: values.Models = Field(
        default=("digits",),
        description="Models that every worker of the fleet serves: `digits`, the name of a torchvision classification "
        "model, or `name=package.module:Class`.",
    )
    default_model: str | None = Field(default=None, description="Model of requests that name none.")
    weights: values.Pairs = Field(
        default={},
        description="Weights per model, `name=URI`: a file://, gs:// or https:// URI, `random`, or a torchvision "
        "weights name. Without an entry: the model's own default.",
    )
    device: str = Field(default="auto", description="`auto` (every CUDA device, else the CPU), `cpu`, or `cuda:0`.")

    # Content: what a worker may read
    file_roots: values.Folders = Field(
        default=(), description="Folders under which file:// URIs may be read. Empty: none."
    )
    https_hosts: values.Hosts = Field(
        default=(), description="Hosts that https:// URIs may name; `*.example.org` covers subdomains. Empty: none."
    )
    https_private_networks: values.Networks = Field(
        default=(),
        description="Networks (CIDRs) beyond the public Internet in which those hosts may be. Empty: none, so that no "
        "name and no redirect leads to loopback, private networks or the metadata server.",
    )
    gs_buckets: values.Buckets = Field(
        default=("*",), description="Buckets that gs:// URIs may name. `*`: all that the service account may read."
    )
    content_max_bytes: int = Field(default=20_000_000, gt=0, description="Largest content that is fetched, bytes.")
    image_max_pixels: int = Field(default=64_000_000, gt=0, description="Largest image that is decoded, pixels.")
    fetch_timeout_s: float = Field(default=30.0, gt=0, description="Time for one content, retries included, seconds.")
    result_max_bytes: int = Field(default=1_000_000, gt=0, description="Largest result, bytes of JSON.")

    # Chunks and batches
    chunk_max_requests: int = Field(default=256, gt=0, description="Most requests in one Celery task.")
    chunk_max_bytes: int = Field(
        default=4 * 1024 * 1024,
        gt=0,
        description="Most bytes of requests in one chunk. A larger request travels alone.",
    )
    chunk_work_s: float = Field(default=0.1, gt=0, description="Most GPU work in one Celery task, seconds.")
    batch_max_requests: int = Field(default=64, gt=0, description="Most requests that the GPU runs at once.")
    batch_wait_s: float = Field(
        default=0.0,
        ge=0,
        description="Longest wait for a fuller batch while the GPU is free, seconds; never more than one batch takes.",
    )
    batch_deadline_s: float = Field(
        default=60.0,
        gt=0,
        description="Longest run of a batch on the device, and longest decoding or encoding of one request, seconds; "
        "never more than LOWTIDE_STUCK_AFTER_S. Then the worker hands back what it holds and ends; a request that was "
        "alone fails with `timeout`.",
    )
    threads: int = Field(default=64, gt=0, description="Celery tasks that a worker may have in flight.")
    decode_threads: int = Field(
        default_factory=lambda: max(2, os.cpu_count() or 2), gt=0, description="Threads that decode."
    )
    decode_memory_bytes: int = Field(
        default_factory=lambda: memory_bytes() // 4,
        gt=0,
        description="Memory for decoding images, over all threads of a worker together, bytes. Who needs more than is "
        "left waits; an image that needs more than all of it is decoded alone.",
    )

    # Stopping, stalling, watching
    grace_s: float = Field(default=20.0, gt=0, description="Time to finish what runs after SIGTERM, seconds.")
    metadata_url: values.MetadataUrl = Field(
        default="",
        description="Metadata server whose notices of preemption and of maintenance are a drain. Empty: Google's, on a "
        "Compute Engine VM. `none`: no notices are read.",
    )
    stuck_after_s: float = Field(
        default=120.0, gt=0, description="Unhealthy after so long without progress while there is work, seconds."
    )
    health_port: int = Field(
        default=0, ge=0, le=65535, description="Port of the liveness endpoint `/healthz`. 0: no endpoint."
    )
    metrics_port: int = Field(
        default=0, ge=0, le=65535, description="Port at which `lowtide autoscale` answers Prometheus. 0: none."
    )
    metrics_address: values.ListenAddress = Field(
        default="127.0.0.1", description="Address that the Prometheus endpoint binds."
    )
    monitoring_host: values.HostPort = Field(
        default="", description="`host:port` of a local Cloud Monitoring, unencrypted. Empty: Google's."
    )
    health_address: values.ListenAddress = Field(
        default="127.0.0.1", description="Address that the liveness endpoint binds."
    )
    worker_slot: str = Field(
        default="",
        description="Tells workers of one machine apart; the same after a restart. Empty: the lowest free number.",
    )
    flower_address: values.ListenAddress = Field(default="127.0.0.1", description="Address that Flower binds.")
    flower_port: int = Field(default=5555, ge=0, le=65535, description="Port that Flower binds.")
    flower_basic_auth: values.Logins = Field(
        default=(),
        repr=False,
        description='`user:password` for Flower, in ASCII, or a JSON array of several: `["a:b","c:d"]`, also if a '
        "password has a comma in it. Required, with a password, unless Flower binds loopback.",
    )
    flower_read_only: bool = Field(default=True, description="Flower may look but not control.")
    flower_url: values.WebUrl = Field(
        default="",
        description="Flower whose figures are metrics of the fleet as well: `http://host:port`. It is asked with the "
        "first login of LOWTIDE_FLOWER_BASIC_AUTH. Empty: none is asked.",
    )
    log_level: values.LogLevel = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")

    @property
    def model_names(self) -> tuple[str, ...]:
        """The names that requests use, without import paths."""
        return tuple(entry.partition("=")[0] for entry in self.models)

    def topic_path(self, topic: str) -> str:
        """Full name of `topic`; a full name stays as it is. Raises SettingsError without a project."""
        return topic if topic.startswith("projects/") else f"projects/{self.require_project()}/topics/{topic}"

    def subscription_path(self, subscription: str) -> str:
        """Full name of `subscription`; a full name stays as it is. Raises SettingsError without a project."""
        if subscription.startswith("projects/"):
            return subscription
        return f"projects/{self.require_project()}/subscriptions/{subscription}"

    def require_project(self) -> str:
        """The project. Raises SettingsError when none is set."""
        if self.project:
            return self.project
        raise SettingsError("LOWTIDE_PROJECT is not set: set it to the Google Cloud project of the topics")

    def environment(self) -> dict[str, str]:
        """What was set, not defaulted, as environment variables: for a process that shall have the same settings, also
        if it inherits the rest of this one's environment.
        """
        names = sorted(self.model_fields_set)
        written = {name: as_text(getattr(self, name), joined=name != "flower_basic_auth") for name in names}
        return {CONFIG: "", **{f"{ENV_PREFIX}{name.upper()}": text for name, text in written.items()}}

    @field_validator("*", mode="before")
    @classmethod
    def _without_what_is_around(cls, value: object, info: ValidationInfo) -> object:
        """Of texts alone: an entry of an array, and a login, are what they are."""
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation is not bool:
            raise ValueError("true and false are for other settings")
        if not isinstance(value, str) or info.field_name == "flower_basic_auth":
            return value
        if info.field_name != "file_roots" and not is_utf8(value):
            shown = f": {value!a}" if cls.model_fields[info.field_name or ""].repr else ""
            raise ValueError(f"holds bytes that are not UTF-8{shown}")
        # What a folder, or a file of weights, is called is its owner's.
        return cleaned(value) if info.field_name in ("file_roots", "weights") else checked.replaced(cleaned(value))

    def lay_aside(self, wrong: Mapping[str, str]) -> None:
        """Keep no value of these settings, and tell whoever asks for one what is wrong with it."""
        self._wrong.update(wrong)
        for name in wrong:
            self.__dict__.pop(name, None)
            self.model_fields_set.discard(name)

    @property
    def wrong(self) -> Mapping[str, str]:
        """Settings that were laid aside, each with what is wrong with it."""
        return self._wrong

    def __getattr__(self, name: str) -> Any:
        """Asked by Python for what is not there."""
        private = self.__dict__.get("__pydantic_private__") or self.__pydantic_private__ or {}
        if name in private.get("_wrong", {}):
            raise SettingsError(private["_wrong"][name])
        return super().__getattr__(name)  # type: ignore[misc]
