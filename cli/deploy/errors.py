"""What keeps a command from doing its work, each with what to do."""

from lowtide.tasks.errors import LowtideError


class Unprepared(LowtideError):
    """The base class: `why` it can't go on, and the `remedy`."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why, remedy)
        self.why = why
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.why}: {self.remedy}"


class TerraformMissing(Unprepared):
    """Raised when there is no terraform to be run."""


class TerraformFailed(Unprepared):
    """Raised when terraform ends with an error."""


class NotChosen(Unprepared):
    """Raised when a variable without a default has no value."""


class CredentialsMissing(Unprepared):
    """Raised when there are no application default credentials, or they are no longer good."""


class ApiRefused(LowtideError):
    """Raised when an API does not answer, or with an error that is not "not found"."""
