"""Whether a task that begins is still this worker's: it may have been given to another while it waited here."""

from collections.abc import Callable

_is_ours: Callable[[str], bool] | None = None


def decide_by(is_ours: Callable[[str], bool] | None) -> None:
    """Let this decide, by delivery tag; None: every task is ours."""
    global _is_ours  # one consumer a process is what a worker is
    _is_ours = is_ours


def given_up(delivery: str | None) -> bool:
    """True when whoever has the task now runs it. `delivery`: its tag, None of a task that no message brought."""
    return delivery is not None and _is_ours is not None and not _is_ours(delivery)
