"""The Celery app: JSON only, late acknowledgement, one queue per model and door."""

from functools import partial
from typing import Any

from celery import Celery
from celery.app.utils import Settings as CelerySettings
from celery.loaders.app import AppLoader

from lowtide.config import Process, Settings, SettingsError, load_settings
from lowtide.config.redis_url import RedisAddress
from lowtide.tasks.callbacks import queue_of
from lowtide.tasks.fork import Lock, separate
from lowtide.tasks.queues import PREFIX, PRIORITY_STEPS, route
from lowtide.tasks.redis.connect import ANSWER_S

RESULT_EXPIRES_S = 24 * 3600
TRANSPORTS = {
    "redis": "lowtide.tasks.chunks.publish:Transport",
    "rediss": "lowtide.tasks.chunks.publish:SecureTransport",
}
"""By which our app sends to Redis, for each scheme."""
_making = Lock()


def celery_config(settings: Settings) -> dict[str, Any]:
    """Celery's settings for the fleet that `settings` describes."""
    transport = {
        "global_keyprefix": settings.prefix,
        # All that workers read: Flower and `celery purge` look into no others.
        "priority_steps": list(PRIORITY_STEPS),
        # JSON within JSON. Kombu's default is base64, a third larger, which content is already.
        "body_encoding": "utf-8",
        # A message's age says nothing of its worker's health: tasks.held.sweeper restores by liveness instead.
        "visibility_timeout": 7 * 24 * 3600,
        "socket_keepalive": True,
        "socket_timeout": ANSWER_S,
        "health_check_interval": 10,
    }
    address = RedisAddress.of(settings.redis_url)
    return {
        "broker_url": address.url,
        "broker_use_ssl": address.tls,
        "broker_transport_options": transport,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # What Redis refuses while a worker connects, it may allow in a second.
        "broker_channel_error_retry": True,
        "result_backend": address.url,
        "redis_backend_use_ssl": address.tls,
        "result_backend_transport_options": {"global_keyprefix": settings.prefix},
        "result_expires": RESULT_EXPIRES_S,
        "redis_socket_timeout": ANSWER_S,
        "redis_socket_keepalive": True,
        "redis_backend_health_check_interval": 10,
        # One backend for all threads, and one subscription: else two connections for each of them.
        "result_backend_thread_safe": True,
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # Nothing is sent there. It is what a `purge`, or a worker without -Q, takes for the app's own.
        "task_default_queue": "lowtide",
        "task_routes": (route,),
        "worker_prefetch_multiplier": 1,
        "worker_send_task_events": True,
        "worker_hijack_root_logger": False,
        # What a reconnect left running stays held and counted by workers.consumer: this would count it twice.
        "worker_enable_prefetch_count_reduction": False,
        # Cancelling raises NotImplementedError in a threads pool; the message is redelivered either way.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
    }


class Conf(CelerySettings):
    """Celery's own, which would follow CELERY_BROKER_URL and the like: in an application's environment these are its
    own, and its broker is no fleet.
    """

    @property
    def broker_url(self) -> Any:
        """As configured."""
        return self["broker_url"]

    @property
    def broker_read_url(self) -> Any:
        """As configured, else `broker_url`."""
        return self["broker_read_url"] or self.broker_url

    @property
    def broker_write_url(self) -> Any:
        """As configured, else `broker_url`."""
        return self["broker_write_url"] or self.broker_url

    @property
    def result_backend(self) -> Any:
        """As configured."""
        return self["result_backend"]


class Loader(AppLoader):
    """Celery's own, which would read the module that CELERY_CONFIG_MODULE names: an application's, likewise."""

    override_backends = dict.fromkeys(("redis", "rediss"), "lowtide.tasks.redis.backend:SharedBackend")

    def read_configuration(self, env: str = "") -> None:
        """None: settings are ours alone."""


class App(Celery):
    """Reads the settings, of variables that begin with LOWTIDE_ alone, when they are first needed."""

    amqp_cls = "lowtide.tasks.chunks.publish:Amqp"

    def __init__(self, main: str | None = None, **options: Any) -> None:
        """As Celery's own."""
        # By name: Celery looks into it when the process is Django's.
        super().__init__(main, **{**options, "loader": f"{__name__}:{Loader.__name__}"})
        # Celery makes it itself, and what is assigned to it becomes a setting.
        object.__setattr__(self.conf, "__class__", Conf)

    @property
    def backend(self) -> Any:
        """Celery's own, but one, also when many threads ask for it at first."""
        with _making:
            return super().backend

    @property
    def producer_pool(self) -> Any:
        """Likewise."""
        with _making:
            return super().producer_pool

    def _connection(self, url: Any, *args: Any, **options: Any) -> Any:
        """Celery's own; to Redis by the transport that wakes workers."""
        secured = options.get("ssl") or self.conf.broker_use_ssl  # kombu does for `rediss` alone what is left out here
        scheme = url.partition("://")[0] if isinstance(url, str) else ""
        if scheme == "redis" or (scheme == "rediss" and secured):
            options["transport"] = options.get("transport") or TRANSPORTS[scheme]
        return super()._connection(url, *args, **options)

    def on_configure(self) -> None:
        """Celery's hook, first of all when it reads its configuration; until it succeeds, Celery asks again. Raises
        SettingsError: later on, Celery takes some errors for a setting that is missing, and then looks for RabbitMQ on
        this machine.
        """
        try:
            config = _own_config(load_settings(Process.CALLER))
        except SettingsError:
            raise
        except Exception as error:  # whatever it is, no task may go elsewhere
            raise SettingsError(f"the settings can't be read: {type(error).__name__}: {error}") from error
        self.add_defaults(lambda: config)


# Not the current app: an application that imports us keeps its own.
app = App("lowtide", set_as_current=False)
separate(app)


def _own_config(settings: Settings) -> dict[str, Any]:
    """Our app sends callbacks where the calling app would. That app itself, which may be configured for the fleet as
    well, must not have this route: it would be asked where it sends what it is about to send.
    """
    config = celery_config(settings)
    callbacks = partial(_route_callback, otherwise=settings.callback_queue)
    return {**config, "task_routes": (*config["task_routes"], callbacks)}


def _route_callback(name: str, *_: Any, otherwise: str, **__: Any) -> dict[str, str] | None:
    return None if name.startswith(PREFIX) else {"queue": queue_of(name, ours=app) or otherwise}


def configure(settings: Settings) -> Celery:
    """Give the app these settings instead of the environment's. For processes that we start."""
    app.conf.update(_own_config(settings))
    app._after_fork()  # forgets the pools of the settings before
    app._backend_cache = None
    return app
