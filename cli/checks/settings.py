"""What `lowtide doctor` says of settings: those that are wrong, variables that are none, and a Service's."""

import difflib
import os
import re
from collections.abc import Iterator

from lowtide.cli.checks.findings import Finding, failed, warning
from lowtide.config import Settings, SettingsError, pubsub_emulator
from lowtide.config.flower import check_login
from lowtide.config.given import ENV_PREFIX, services
from lowtide.config.used_by import Process, used_by

WHAT = "Settings"
SHOWN = 3
OURS = re.compile(rf"(?<!\w){ENV_PREFIX}")
"""Anywhere but within a word: a file of variables may leave `export `, blanks or a byte order mark in a name."""


def wrong(settings: Settings) -> Iterator[Finding]:
    """Each value that some process would refuse, and which."""
    for name, why in settings.wrong.items():
        users = used_by(name)
        who = "every process" if users == frozenset(Process) else ", ".join(sorted(users))
        yield failed(WHAT, why, f"correct or unset it; used by: {who}")
    try:
        pubsub_emulator()
    except SettingsError as error:
        yield failed(WHAT, str(error), "correct or unset it")
    if not settings.wrong.keys() & {"flower_address", "flower_basic_auth"}:
        try:
            check_login(settings)
        except SettingsError as error:
            yield failed(WHAT, str(error), "used by: flower")


def environment() -> Iterator[Finding]:
    """Variables that look like settings and are none. Nothing else tells of a misspelt name."""
    theirs = dict(services())
    known = {f"{ENV_PREFIX}{name.upper()}" for name in (*Settings.model_fields, "config")}
    for variable in sorted(os.environ):
        if OURS.search(variable) and variable not in known and variable not in theirs:
            close = difflib.get_close_matches(variable, known, n=1)
            remedy = f"did you mean {close[0]}?" if close else "docs/settings.md lists them all"
            yield warning(WHAT, f"{variable if variable.isidentifier() else ascii(variable)} is no setting", remedy)
    if theirs:
        shown = ", ".join(list(theirs)[:SHOWN]) + (", …" if len(theirs) > SHOWN else "")
        made_of = ", ".join(sorted(set(theirs.values())))
        yield warning(
            WHAT,
            f"{len(theirs)} variables are what Kubernetes makes of Services ({made_of}), and ignored: {shown}",
            "enableServiceLinks: false in the Pod's spec turns them off",
        )
