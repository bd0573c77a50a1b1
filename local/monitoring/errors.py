"""What the server refuses, and under which gRPC status code."""

from collections.abc import Sequence


class MonitoringError(Exception):
    """Base class. The message is for a person; `code` names the gRPC status."""

    code = "INTERNAL"


class InvalidArgument(MonitoringError):
    """Raised when a request breaks a rule of the service."""

    code = "INVALID_ARGUMENT"


class PartlyWritten(InvalidArgument):
    """Raised when some of the `total` series of a request are refused. `refused`: their places in it, and why."""

    def __init__(self, refused: Sequence[tuple[int, str]], *, total: int) -> None:
        said = "; ".join(f"timeSeries[{place}]: {why}" for place, why in refused)
        super().__init__(f"One or more TimeSeries could not be written: {said}")
        self.refused = refused
        self.total = total


class NotFound(MonitoringError):
    """Raised when a descriptor does not exist."""

    code = "NOT_FOUND"


class Unsupported(MonitoringError):
    """Raised for a feature that this server would otherwise have to ignore in silence."""

    code = "UNIMPLEMENTED"
