"""What the server refuses, and under which gRPC status code."""


class PubsubError(Exception):
    """Base class. The message is for a person; `code` names the gRPC status."""

    code = "INTERNAL"


class NotFound(PubsubError):
    """Raised when a topic or subscription does not exist."""

    code = "NOT_FOUND"


class AlreadyExists(PubsubError):
    """Raised when a topic or subscription of that name exists."""

    code = "ALREADY_EXISTS"


class InvalidArgument(PubsubError):
    """Raised when a request breaks a rule of the service."""

    code = "INVALID_ARGUMENT"


class OutOfRange(PubsubError):
    """Raised when a number of a dead-letter policy is out of bounds: the service uses this code there alone."""

    code = "OUT_OF_RANGE"


class ResourceExhausted(PubsubError):
    """Raised when the server holds as much as it may. Clients try again."""

    code = "RESOURCE_EXHAUSTED"


class Unsupported(PubsubError):
    """Raised for a feature that this server would otherwise have to ignore in silence."""

    code = "UNIMPLEMENTED"
