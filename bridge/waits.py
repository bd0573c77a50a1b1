"""`Waits`: how long a bridge waits for what. Tests wait less."""

from dataclasses import dataclass

from lowtide.tasks.chunks.dispatch import Looks

LOOKS = Looks(old_s=60.0, gone_s=60.0)
"""Longer than any step from one place to the next takes: the 20 s of a sweeper, and as many until another leads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Seconds."""

    credit_look_s: float = 0.02
    """Until credit that is used up is looked at again: a fifth of a chunk's run time."""
    idle_look_s: float = 0.25
    """For messages, before credit is looked at again."""
    again_s: float = 1.0
    """Until a call that Redis or Pub/Sub did not answer is made again."""
    refused_again_s: float = 5.0
    """Until a subscription that Pub/Sub refuses is pulled again."""
    delete_again_s: float = 15.0
    """Until results and content are deleted that Redis did not delete. Acknowledgements wait for each try."""
    anothers_s: float = 10.0
    """Until a message comes again that another bridge is about to settle."""
    unreadable_s: float = 60.0
    """Until messages come again whose result can't be read. The work will be done anew: often enough that a roll-out
    isn't held up, seldom enough to cost little.
    """
    backoffs_s: tuple[float, ...] = (10.0, 30.0, 90.0)
    """After each attempt that failed and that another may cure. Pub/Sub is the timer: the message's lease ends when the
    backoff does.
    """
    looks: Looks = LOOKS
    """For single chunks that Redis lost."""

    def backoff_s(self, tries: int) -> float | None:
        """The wait after so many attempts that counted (1: the first failed); None when it was the last."""
        return self.backoffs_s[tries - 1] if 1 <= tries <= len(self.backoffs_s) else None


USUAL = Waits()
