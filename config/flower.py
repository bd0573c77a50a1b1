"""Flower's command line, the environment that it is started in, and how it shows a task."""

import os
import re
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from lowtide.config.addresses import is_loopback
from lowtide.config.given import is_link
from lowtide.config.redact import redacted
from lowtide.config.settings import Settings, SettingsError

OPTIONS = Path(__file__).resolve().with_name("flower_options.py")
ARGUMENTS_SHOWN = 120
"""Characters of a task's arguments that a person wants to see: a stock caller's arguments may hold base64."""

_CONTENT = re.compile(r"('data': ')[^']{24,}('?)")


def format_task(task: Any) -> Any:
    """What Flower shows of a task: never its content. Our own clients send "digits × 64" to begin with."""
    if task.args:
        shown = redacted(_CONTENT.sub(r"\1…\2", str(task.args)))
        task.args = shown if len(shown) <= ARGUMENTS_SHOWN else shown[:ARGUMENTS_SHOWN] + "…"
    return task


def check_login(settings: Settings) -> None:
    """Raises SettingsError when Flower would be open to the network without a login, or with one that has no password.
    `lowtide.config.flower_options` hands the logins over.
    """
    if is_loopback(settings.flower_address):
        return
    logins = settings.flower_basic_auth
    if not logins or not all(login.partition(":")[2] for login in logins):
        what = "with an empty password" if logins else "to the network"
        raise SettingsError(
            f"LOWTIDE_FLOWER_BASIC_AUTH: Flower would be open {what} on {settings.flower_address}: set it to "
            "user:password, or LOWTIDE_FLOWER_ADDRESS to 127.0.0.1"
        )


def flower_arguments(settings: Settings) -> list[str]:
    """Flower's command line. Raises SettingsError as `check_login` does."""
    check_login(settings)
    arguments = [
        "flower",
        f"--conf={OPTIONS}",
        f"--address={settings.flower_address}",
        f"--port={settings.flower_port}",
        "--tasks_columns=name,args,result,state,runtime,received,worker,uuid",
        # A worker that was killed would be shown as online for ever.
        "--purge-offline-workers=60",
    ]
    if settings.flower_read_only:
        arguments.append("--read_only")
    return arguments


def ask_for_login_at_metrics() -> None:
    """Make Flower ask for its login at `/metrics` too, if it has one. Of its own it only leaves `/healthcheck` open;
    metrics name workers and tasks.
    """
    from flower.views.monitor import Metrics
    from tornado.web import authenticated

    Metrics.get = authenticated(Metrics.get)


def forget_services(environ: MutableMapping[str, str] = os.environ) -> None:
    """Take away what Kubernetes makes of a Service called flower: Flower takes FLOWER_PORT for its own variable."""
    for name in [name for name, value in environ.items() if name.startswith("FLOWER_") and is_link(value)]:
        del environ[name]
