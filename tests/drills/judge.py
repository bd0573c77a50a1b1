"""What a row must not show. Pure."""

from collections.abc import Iterator, Sequence

from tests.drills.rows import Row
from tests.drills.verdict import Called, Verdict

EXIT_S = 25.0


def complaints(row: Row, verdicts: Sequence[Verdict], *, flow_s: float | None = None) -> list[str]:
    """Every promise that these rounds broke, as a sentence; and others that did not flow again within `flow_s`, of the
    row if not given.
    """
    return [complaint for verdict in verdicts for complaint in _of(row, verdict, flow_s or row.flow_s)]


def _of(row: Row, verdict: Verdict, within_s: float) -> Iterator[str]:
    if verdict.lost:
        yield f"{verdict.lost} of {verdict.requests} requests are lost"
    if verdict.wrong > row.wrong_per_try * verdict.tries:
        yield f"{verdict.wrong} requests ended as they must not: {verdict.endings}"
    if verdict.duplicated > row.copies_per_try * verdict.tries:
        yield f"{verdict.duplicated} second copies, more than are allowed"
    if slow := [flow_s for flow_s in verdict.flow_s if flow_s is None or flow_s > within_s]:
        yield f"other requests did not flow again within {within_s:.0f} s: {slow}"
    if row.runs_once and verdict.again:
        yield f"{verdict.again} requests ran again after their result was published"
    if row.tries_once and verdict.retried:
        yield f"{verdict.retried} requests ended at a further try"
    if (longest_s := max(verdict.longest_s, verdict.many.longest_s)) > row.longest_s:
        yield f"an answer came after {longest_s:.0f} s"
    if row.spares_stock and (verdict.stock.lost or verdict.stock.twice):
        stock = verdict.stock
        yield f"of {stock.asked} tasks of the neighbour {stock.lost} did not end, and {stock.twice} ran twice"
    yield from _of_exits(verdict)
    yield from _of_caller("infer_many", verdict.many)
    yield from _of_caller("infer.delay", verdict.delay)


def _of_exits(verdict: Verdict) -> Iterator[str]:
    if bad := [(code, s) for code, s in verdict.exits if code != 0 or s > EXIT_S]:
        yield f"not every process ended with 0 within {EXIT_S:.0f} s: {bad}"


def _of_caller(what: str, called: Called) -> Iterator[str]:
    if called.lost or called.wrong or called.error:
        yield f"{what}: {called.lost} of {called.asked} lost, {called.wrong} wrong {called.error}".rstrip()
