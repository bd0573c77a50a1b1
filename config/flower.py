"""Flower's configuration: its command line, and how it shows a task. Flower reads this file by its path."""

import ipaddress
import re
from pathlib import Path
from typing import Any

from lowtide.config.redact import redacted
from lowtide.config.settings import Settings, SettingsError

ARGUMENTS_SHOWN = 120
"""Characters of a task's arguments that a person wants to see: a stock caller's arguments may hold base64."""

_CONTENT = re.compile(r"('data': ')[^']{24,}('?)")


def format_task(task: Any) -> Any:
    """What Flower shows of a task: never its content. Our own clients send "digits × 64" to begin with."""
    if task.args:
        shown = redacted(_CONTENT.sub(r"\1…\2", str(task.args)))
        task.args = shown if len(shown) <= ARGUMENTS_SHOWN else shown[:ARGUMENTS_SHOWN] + "…"
    return task


def flower_arguments(settings: Settings) -> list[str]:
    """Flower's command line. Raises SettingsError when Flower would be open to the network without a login."""
    if not settings.flower_basic_auth and not _is_loopback(settings.flower_address):
        raise SettingsError(
            f"LOWTIDE_FLOWER_BASIC_AUTH: Flower would be open to the network on {settings.flower_address}: set it to "
            "user:password, or LOWTIDE_FLOWER_ADDRESS to 127.0.0.1"
        )
    arguments = [
        "flower",
        f"--conf={Path(__file__).resolve()}",
        f"--address={settings.flower_address}",
        f"--port={settings.flower_port}",
        "--tasks_columns=name,uuid,state,args,result,received,runtime,worker",
        # A worker that was killed would be shown as online for ever.
        "--purge-offline-workers=60",
    ]
    if settings.flower_basic_auth:
        arguments.append(f"--basic-auth={','.join(settings.flower_basic_auth)}")
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


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
