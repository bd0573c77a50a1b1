"""Writes the tables of docs/reliability.md from the book. Pure, but for the file."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

from tests.drills.rows import ROWS, Row
from tests.drills.tally import ROOT, Round
from tests.drills.verdict import Verdict

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- written by make drill: -->", "<!-- :written by make drill -->"


def write(rounds: Sequence[Round], *, commit: str, page: Path = PAGE) -> None:
    """Put the tables between the marks of the page."""
    text = page.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{tables(rounds, commit=commit)}\n{END}{after}")


def tables(rounds: Sequence[Round], *, commit: str) -> str:
    """The three tables and where they come from."""
    machines = sorted({round_.machine for round_ in rounds})
    whole = _by_row(round_ for round_ in rounds if not round_.broken)
    return "\n".join(
        [
            f"Commit `{commit}`; {'; '.join(machines) or 'nothing has run yet'}.",
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
    return _table(head, [_topic_line(name, row, by_row.get(name, [])) for name, row in ROWS.items()])


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


FIELDS = ("requests", "lost", "duplicated", "wrong")


def _flow(flow_s: Sequence[float | None]) -> str:
    known = [value for value in flow_s if value is not None]
    if len(known) < len(flow_s) or not known:
        return "never"
    return f"{median(known):.1f}, {max(known):.1f}"


def _caller_table(by_row: Mapping[str, list[Round]]) -> list[str]:
    head = ("row", "`infer_many`: requests", "lost", "wrong", "`infer.delay`: requests", "lost", "wrong")
    lines: list[tuple[object, ...]] = []
    for name, row in ROWS.items():
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
    )  # fmt: skip
    lines = [
        _broken_line(name, broken.piece, [r.verdict for r in rounds if (r.row, r.broken) == (name, broken.patch)])
        for name, row in ROWS.items()
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
    return (f"`{name}`", piece, tries, *sums, flow, again, bad_exits, callers_lost)


def _table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> list[str]:
    rows = [head, ["---"] * len(head), *lines]
    return [f"| {' | '.join(map(str, row))} |" for row in rows]
