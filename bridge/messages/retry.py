"""When a request is tried again. Pure. Pub/Sub is the timer: the message's lease ends when the backoff does."""

BACKOFFS_S = (10.0, 30.0, 90.0)


def backoff_s(tries: int) -> float | None:
    """The wait after so many attempts that counted (1: the first failed); None when it was the last."""
    return BACKOFFS_S[tries - 1] if 1 <= tries <= len(BACKOFFS_S) else None
