"""What a check finds: all is well, or how bad it is and what to do."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. `remedy`: what to do."""

    what: str
    verdict: Verdict
    message: str
    remedy: str = ""


def ok(what: str, message: str) -> Finding:
    """All is well."""
    return Finding(what=what, verdict=Verdict.OK, message=message)


def warning(what: str, message: str, remedy: str) -> Finding:
    """It works, and is not as it should be."""
    return Finding(what=what, verdict=Verdict.WARNING, message=message, remedy=remedy)


def failed(what: str, message: str, remedy: str) -> Finding:
    """It does not work, or will lose data."""
    return Finding(what=what, verdict=Verdict.FAILED, message=message, remedy=remedy)
