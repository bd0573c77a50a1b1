"""What a round came to: every request, every copy of every answer."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.drills.load import Copy, Sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """What became of the requests of Python callers. `longest_s`: the longest wait for an answer, where it was
    measured; `twice`: answers beyond the first.
    """

    asked: int = 0
    lost: int = 0
    wrong: int = 0
    error: str = ""
    longest_s: float = 0.0
    twice: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a round came to. `flow_s`: for each fault, until a request published after it was answered; `last_s`: from
    the last fault until no request was unanswered; `exits`: code and seconds of processes that were asked to stop.
    """

    tries: int
    requests: int
    lost: int
    duplicated: int
    wrong: int
    flow_s: tuple[float | None, ...]
    last_s: float
    again: int
    """Requests that were predicted once more after their result had been published."""
    endings: dict[str, int]
    retried: int = 0
    """Requests that ended at a further try than their first."""
    exits: tuple[tuple[int | None, float], ...] = ()
    many: Called = Called()
    delay: Called = Called()
    stock: Called = Called()
    longest_s: float = 0.0
    """The longest wait of a request that came by topic."""
    twice: int = 0
    """Requests that were predicted more than once, whoever sent them."""


def verdict_of(
    sent: Mapping[int, Sent],
    copies: Mapping[int, Sequence[Copy]],
    *,
    expected: Mapping[int, str],
    flow_s: Sequence[float | None],
    last_s: float,
    runs: Path,
    exits: Sequence[tuple[int | None, float]],
) -> Verdict:
    """`copies`: the answers of each request; `expected`: the endings of those that must not be answered right."""
    answers = {number: copies.get(number, ()) for number in sent}
    flat = [copy for all_ in answers.values() for copy in all_]
    return Verdict(
        tries=len(flow_s),
        requests=len(sent),
        lost=sum(not all_ for all_ in answers.values()),
        duplicated=sum(map(_surplus, answers.values())),
        wrong=sum(not _right(copy, expected.get(copy.request)) for copy in flat),
        flow_s=tuple(flow_s),
        last_s=round(last_s, 1),
        again=_again(answers, runs),
        endings=dict(Counter(copy.ending for copy in flat)),
        retried=sum(any(copy.attempts > 1 for copy in all_) for all_ in answers.values()),
        exits=tuple(exits),
        longest_s=max((_first_s(all_) - sent[number].sent_s for number, all_ in answers.items() if all_), default=0.0),
        twice=_twice(runs),
    )


def _first_s(copies: Sequence[Copy]) -> float:
    return min(copy.came_s for copy in copies)


def _right(copy: Copy, expected: str | None) -> bool:
    return copy.right if expected is None else copy.ending == expected


def _surplus(copies: Sequence[Copy]) -> int:
    """Answers beyond the first. A publish that was repeated unanswered may be two messages: each has its own."""
    messages = {copy.message_id for copy in copies if copy.message_id}
    return max(0, len(copies) - max(1, len(messages)))


def _again(answers: Mapping[int, Sequence[Copy]], runs: Path) -> int:
    published = {number: min(copy.published for copy in all_) for number, all_ in answers.items() if all_}
    return len({number for number, at in _runs(runs) if at > published.get(number, at)})


def _twice(runs: Path) -> int:
    once: set[int] = set()
    more: set[int] = set()
    for number, _ in _runs(runs):
        (more if number in once else once).add(number)
    return len(more)


def _runs(folder: Path) -> Iterator[tuple[int, float]]:
    """Which requests models have predicted, and when (Unix time)."""
    for file in folder.glob("*.txt"):
        for line in file.read_text().splitlines():
            number, _, at = line.partition(" ")
            yield int(number), float(at)
