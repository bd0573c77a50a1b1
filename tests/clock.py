"""A clock that a test moves, in the place of `time.monotonic`."""


class Clock:
    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def pass_(self, seconds: float) -> float:
        self.now_s += seconds
        return self.now_s
