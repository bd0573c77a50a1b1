"""`load_settings`: the settings of this process, from its arguments, its environment and the file of LOWTIDE_CONFIG."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from lowtide.config.addresses import at, host_port
from lowtide.config.given import CONFIG, ENV_PREFIX, Unreadable, from_environment, from_file
from lowtide.config.redact import redacted
from lowtide.config.settings import Settings, SettingsError
from lowtide.config.text import cleaned
from lowtide.config.used_by import Process, used_by

EMULATOR = "PUBSUB_EMULATOR_HOST"
UNITS = {"s": "seconds", "bytes": "bytes", "pixels": "pixels"}


def load_settings(process: Process | None = None, /, **overrides: Any) -> Settings:
    """Read the settings; `overrides` win over the environment, which wins over the file that LOWTIDE_CONFIG names.

    Raises SettingsError that names every variable that is wrong and what was expected: of those that `process` uses,
    if one is named. The others are laid aside: see `Settings`.
    """
    settings = read_settings(**overrides)
    wrong = [why for name, why in settings.wrong.items() if process is None or process in used_by(name)]
    if wrong:
        raise SettingsError("\n".join(wrong))
    return settings


def pubsub_emulator() -> str | None:
    """The `host:port` of PUBSUB_EMULATOR_HOST, None without. Raises SettingsError when it is none."""
    where = cleaned(os.environ.get(EMULATOR, ""))
    try:
        return at(*host_port(where)) if where else None
    except ValueError as error:
        raise SettingsError(f"{EMULATOR}: {error}") from error


def read_settings(**overrides: Any) -> Settings:
    """The same, with everything laid aside that is wrong. Raises SettingsError when LOWTIDE_CONFIG can't be read."""
    path = cleaned(os.environ.get(CONFIG, ""))
    try:
        file = from_file(path, Settings.model_fields) if path else {}
    except Unreadable as error:
        raise SettingsError(f"{CONFIG}: {error}") from error
    environment = from_environment(Settings.model_fields)
    named = {name: f"{ENV_PREFIX}{name.upper()} ({name} in {path})" for name in file.keys() - environment.keys()}
    given = {**_said(file), **_said(environment), **overrides}
    try:
        settings, wrong = Settings(**given), {}
    except ValidationError as error:
        wrong = _complaints(error, named)
        settings = Settings(**{name: value for name, value in given.items() if name not in wrong})
    settings.lay_aside({**dict(_disagreements(settings, wrong)), **wrong})
    return settings


def _said(given: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is empty, which is as good as unset: but for lists, and texts that are empty by default."""
    return {name: value for name, value in given.items() if not _is_unset(name, value)}


def _is_unset(name: str, value: Any) -> bool:
    default = Settings.model_fields[name].default
    may_be_empty = isinstance(default, tuple | dict) or default == ""
    return isinstance(value, str) and not may_be_empty and not cleaned(value)


def _disagreements(settings: Settings, wrong: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Settings that are right by themselves and not beside each other."""
    low, high = settings.fleet_min, settings.fleet_max
    if low > high:
        yield "fleet_min", f"LOWTIDE_FLEET_MIN ({low}) is more than LOWTIDE_FLEET_MAX ({high})"
    if "models" in wrong:
        return
    if not settings.models:
        yield "models", "LOWTIDE_MODELS names no model"
        return
    for name, models in (("default_model", [settings.default_model or ""]), ("weights", list(settings.weights))):
        unknown = [model for model in models if model and model not in settings.model_names]
        if unknown:
            named = redacted(", ".join(unknown))
            yield name, f"{ENV_PREFIX}{name.upper()} names {named}, which LOWTIDE_MODELS does not serve"


def _complaints(error: ValidationError, named: Mapping[str, str]) -> dict[str, str]:
    """Setting → what is wrong with it, in one line. `named`: the names of those that stand in the file alone."""
    found: dict[str, str] = {}
    for item in error.errors(include_url=False):
        name, *place = map(str, item["loc"])
        what = item["msg"].removeprefix("Value error, ")
        where = f"{'.'.join(place)}: " if place else ""
        # Our own sentences quote what may be quoted.
        got = "" if item["type"] == "value_error" else _got(name, item["input"])
        found.setdefault(name, redacted(f"{named.get(name, ENV_PREFIX + name.upper())}: {where}{what}{got}"))
    return found


def _got(name: str, value: Any) -> str:
    """The value, and what people mean who write it so."""
    field = Settings.model_fields.get(name)
    if field is None or not field.repr:
        return ""
    hint = ""
    if isinstance(value, str) and field.annotation in (int, float) and value:
        unit = UNITS.get(name.rpartition("_")[2])
        hint = f": write a plain number{f' of {unit}' if unit else ''}, without a unit, a comma or an exponent"
    return f", got {value!r}{hint}"
