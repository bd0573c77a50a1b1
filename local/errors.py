"""What the local services refuse, and under which gRPC status code."""

from collections.abc import Sequence


class Refusal(Exception):
    """Base class. The message is for a person; `code` names the gRPC status."""

    code = "INTERNAL"


class NotFound(Refusal):
    """Raised when what a request names does not exist."""

    code = "NOT_FOUND"


class AlreadyExists(Refusal):
    """Raised when a topic or subscription of that name exists."""

    code = "ALREADY_EXISTS"


class InvalidArgument(Refusal):
    """Raised when a request breaks a rule of the service."""

    code = "INVALID_ARGUMENT"


class PartlyWritten(InvalidArgument):
    """Raised when some of the `total` series of a request are refused. `refused`: their places in it, and why."""

    def __init__(self, refused: Sequence[tuple[int, str]], *, total: int) -> None:
        said = "; ".join(f"timeSeries[{place}]: {why}" for place, why in refused)
        super().__init__(f"One or more TimeSeries could not be written: {said}")
        self.refused = refused
        self.total = total


class OutOfRange(Refusal):
    """Raised when a number of a dead-letter policy is out of bounds: Pub/Sub uses this code there alone."""

    code = "OUT_OF_RANGE"


class ResourceExhausted(Refusal):
    """Raised when a service holds as much as it may. Clients try again."""

    code = "RESOURCE_EXHAUSTED"


class Unsupported(Refusal):
    """Raised for a feature that a service would otherwise have to ignore in silence."""

    code = "UNIMPLEMENTED"
