"""Names of models, as far as they are known without torch, which takes seconds to import."""

import difflib
from collections.abc import Iterable
from importlib.metadata import EntryPoints, entry_points

from lowtide.config.settings import SettingsError

ENTRY_POINT_GROUP = "lowtide.models"
SHIPPED = {"digits": "lowtide.workers.models.digits:Digits"}


def installed() -> EntryPoints:
    """Models that installed packages add."""
    return entry_points(group=ENTRY_POINT_GROUP)


def known() -> list[str]:
    """All but torchvision's."""
    return [*SHIPPED, *sorted(installed().names)]


def unknown(spec: str, names: list[str]) -> SettingsError:
    """What to raise for a `spec` that is none of these names."""
    close = _alike(spec, names) or difflib.get_close_matches(spec, names)
    meant = f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(names)}."
    return SettingsError(f"LOWTIDE_MODELS: there is no model {spec}; {meant} Your own: {spec}=package.module:Class")


def check_case(spec: str, *, served: Iterable[str]) -> None:
    """Raises SettingsError for a name that differs from a known or a served one in its capitals alone: it is none of
    torchvision's, which have none. Of others only the registry can say more.
    """
    names = list(dict.fromkeys([*served, *known()]))
    if spec != spec.lower() and spec not in names and _alike(spec, names):
        raise unknown(spec, names)


def _alike(spec: str, names: list[str]) -> list[str]:
    return [name for name in names if name.lower() == spec.lower()]
