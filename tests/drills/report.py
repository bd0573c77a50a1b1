"""Writes the tables of docs/reliability.md from the book. Pure, but for the file.

The rows that are tried by name have a part of the page of their own, which stays as it is while one of them has not
been tried on a newer commit.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from tests.drills.faults import KILLS_BETWEEN
from tests.drills.rows import ROWS, Row
from tests.drills.tally import ROOT, Round
from tests.drills.verdict import Called, Verdict

PAGE = ROOT / "docs" / "reliability.md"
MATRIX = ("<!-- written by make drill: -->", "<!-- :written by make drill -->")
BY_NAME = ("<!-- written by make drill, rows by name: -->", "<!-- :written by make drill, rows by name -->")


def write(rounds: Sequence[Round], *, commit: str, page: Path = PAGE) -> None:
    """Put the tables between the marks of the page."""
    matrix = [round_ for round_ in rounds if not ROWS[round_.row].by_name]
    by_name = [round_ for round_ in rounds if ROWS[round_.row].by_name]
    text = page.read_text()
    if matrix:
        text = _between(text, MATRIX, tables(matrix, commit=commit))
    if by_name:
        text = _between(text, BY_NAME, long_table(by_name, commit=commit))
    page.write_text(text)


def _between(text: str, marks: tuple[str, str], tables: str) -> str:
    begin, end = marks
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{tables}\n{end}{after}"


def tables(rounds: Sequence[Round], *, commit: str) -> str:
    """The three tables of the matrix and where they come from."""
    whole = _by_row(round_ for round_ in rounds if not round_.broken)
    return "\n".join(
        [
            _source(rounds, commit),
            "",
            *_topic_table(whole),
            "",
            "Python callers in the same faults:",
            "",
            *_caller_table(whole),
            "",
            "With the protecting piece switched off:",
            "",
            *_broken_table(rounds),
            "",
        ]
    )


def long_table(rounds: Sequence[Round], *, commit: str) -> str:
    """What became of everything that was sent, by how it was sent."""
    head = ("row", "sent by", "requests", "faults", "lost", "wrongly ended", "longest wait, s", "run more than once")
    lines = [line for round_ in rounds for line in _long_lines(round_)]
    return "\n".join([_source(rounds, commit), "", *_table(head, lines), ""])


def _long_lines(round_: Round) -> Iterator[tuple[object, ...]]:
    row, told = ROWS[round_.row], round_.verdict
    name = f"`{round_.row}`" + "".join(f", {piece.piece}" for piece in row.broken if piece.patch == round_.broken)
    topic = Called(asked=told.requests, lost=told.lost, wrong=told.wrong, longest_s=told.longest_s)
    ours = [topic, told.many, told.delay]
    whole = Called(
        asked=sum(called.asked for called in ours),
        lost=sum(called.lost for called in ours),
        wrong=sum(called.wrong for called in ours),
        longest_s=max(called.longest_s for called in ours),
        twice=told.twice,
    )
    for sent_by, called in zip(("topic", "`infer_many`", "`infer.delay`"), ours, strict=True):
        yield (name, *_long_cells(sent_by, told.tries, called), "—")
    yield (name, *_long_cells("all of these", told.tries, whole), f"{whole.twice:,}")
    yield (name, *_long_cells("stock `send_task`", told.tries // (KILLS_BETWEEN + 1), told.stock), told.stock.twice)


def _long_cells(sent_by: str, faults: int, called: Called) -> tuple[object, ...]:
    waited = f"{called.longest_s:.1f}" if called.longest_s else "—"  # `infer.delay` is asked only at the end
    return (sent_by, f"{called.asked:,}", faults, called.lost, called.wrong, waited)


def _source(rounds: Sequence[Round], commit: str) -> str:
    machines = sorted({round_.machine for round_ in rounds})
    return f"Commit `{commit}`; {'; '.join(machines) or 'nothing has run yet'}."


def _by_row(rounds: Iterable[Round]) -> dict[str, list[Round]]:
    by_row: dict[str, list[Round]] = {}
    for round_ in rounds:
        by_row.setdefault(round_.row, []).append(round_)
    return by_row


def _topic_table(by_row: Mapping[str, list[Round]]) -> list[str]:
    head = (
        "row", "fault", "tried", "requests", "lost", "duplicated", "wrongly ended",
        "others flow again after, s (median, worst)", "all answered after, s (worst)",
    )  # fmt: skip
    return _table(head, [_topic_line(name, row, by_row.get(name, [])) for name, row in MATRIX_ROWS.items()])


def _topic_line(name: str, row: Row, rounds: Sequence[Round]) -> tuple[object, ...]:
    if not rounds:
        return (f"`{name}`", row.fault, f"0 of {row.at_least}", *["—"] * 6)
    verdicts = [round_.verdict for round_ in rounds]
    tried = sum(verdict.tries for verdict in verdicts)
    return (
        f"`{name}`",
        row.fault,
        tried if tried >= row.at_least else f"{tried} of {row.at_least}",
        *(f"{sum(getattr(verdict, field) for verdict in verdicts):,}" for field in FIELDS),
        _flow([flow_s for verdict in verdicts for flow_s in verdict.flow_s]),
        f"{max(verdict.last_s for verdict in verdicts):.0f}",
    )


MATRIX_ROWS = {name: row for name, row in ROWS.items() if not row.by_name}
FIELDS = ("requests", "lost", "duplicated", "wrong")


def _flow(flow_s: Sequence[float | None]) -> str:
    known = [value for value in flow_s if value is not None]
    if len(known) < len(flow_s) or not known:
        return "never"
    return f"{median(known):.1f}, {max(known):.1f}"


def _caller_table(by_row: Mapping[str, list[Round]]) -> list[str]:
    head = ("row", "`infer_many`: requests", "lost", "wrong", "`infer.delay`: requests", "lost", "wrong")
    lines: list[tuple[object, ...]] = []
    for name, row in MATRIX_ROWS.items():
        rounds = by_row.get(name, [])
        if not row.callers or not rounds:
            continue
        counts: list[object] = []
        for kind in ("many", "delay"):
            called = [getattr(round_.verdict, kind) for round_ in rounds]
            sums = [f"{sum(getattr(one, field) for one in called):,}" for field in ("asked", "lost", "wrong")]
            counts += sums if kind == "many" or row.keeps_redis else ["—"] * 3
        lines.append((f"`{name}`", *counts))
    return _table(head, lines)


def _broken_table(rounds: Sequence[Round]) -> list[str]:
    head = (
        "row", "switched off", "tried", "requests", "lost", "duplicated", "wrongly ended",
        "others flow again after, s (median, worst)", "ran again", "exits ≠ 0", "callers: lost",
        "neighbour: ran twice",
    )  # fmt: skip
    lines = [
        _broken_line(name, broken.piece, [r.verdict for r in rounds if (r.row, r.broken) == (name, broken.patch)])
        for name, row in MATRIX_ROWS.items()
        for broken in row.broken
    ]
    return _table(head, lines)


def _broken_line(name: str, piece: str, verdicts: Sequence[Verdict]) -> tuple[object, ...]:
    tries, *sums, again = [
        f"{sum(getattr(verdict, field) for verdict in verdicts):,}" for field in ("tries", *FIELDS, "again")
    ]
    flow = _flow([flow_s for verdict in verdicts for flow_s in verdict.flow_s])
    bad_exits = sum(code != 0 for verdict in verdicts for code, _ in verdict.exits)
    callers_lost = sum(verdict.many.lost + verdict.delay.lost for verdict in verdicts)
    disturbed = sum(verdict.stock.twice for verdict in verdicts)
    return (f"`{name}`", piece, tries, *sums, flow, again, bad_exits, callers_lost, disturbed)


def _table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> list[str]:
    rows = [head, ["---"] * len(head), *lines]
    return [f"| {' | '.join(map(str, row))} |" for row in rows]
