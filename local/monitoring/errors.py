"""What the server refuses, and under which gRPC status code."""


class MonitoringError(Exception):
    """Base class. The message is for a person; `code` names the gRPC status."""

    code = "INTERNAL"


class InvalidArgument(MonitoringError):
    """Raised when a request breaks a rule of the service."""

    code = "INVALID_ARGUMENT"


class PartlyWritten(InvalidArgument):
    """Raised when a write was refused in part: so many of `total` series were, for these reasons."""

    def __init__(self, message: str, *, total: int, refused: int) -> None:
        super().__init__(message)
        self.total = total
        self.refused = refused


class NotFound(MonitoringError):
    """Raised when a descriptor does not exist."""

    code = "NOT_FOUND"


class Unsupported(MonitoringError):
    """Raised for a feature that this server would otherwise have to ignore in silence."""

    code = "UNIMPLEMENTED"
