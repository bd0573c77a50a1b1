from dataclasses import replace
from pathlib import Path

from tests.drills.judge import complaints
from tests.drills.patched import PATCHES
from tests.drills.report import BY_NAME, MATRIX, write
from tests.drills.rows import ROWS
from tests.drills.tally import Book, Round
from tests.drills.verdict import Called, Verdict

BEGIN, END = MATRIX

FINE = Verdict(
    tries=5, requests=700, lost=0, duplicated=3, wrong=0, flow_s=(0.5, 2.5), last_s=31.0, again=9, endings={"ok": 700}
)


def a_round(*, row: str = "bridge-kill", commit: str = "abc", seed: int = 0, verdict: Verdict = FINE) -> Round:
    return Round(commit=commit, row=row, broken="", seed=seed, machine="2 cores", verdict=verdict)


def test_an_interrupted_run_finds_the_rounds_of_its_commit_again(tmp_path: Path) -> None:
    book = Book(tmp_path / "new" / "rounds.jsonl")
    first = a_round(verdict=replace(FINE, exits=((0, 1.5), (None, 60.0)), many=Called(asked=4, lost=1)))
    for round_ in (first, a_round(commit="other"), a_round(seed=1)):
        book.add(round_)

    assert book.rounds("abc") == [first, a_round(seed=1)]


def test_the_table_adds_up_the_rounds_of_a_row_and_leaves_the_page_around_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")

    write([a_round(), a_round(seed=1, verdict=replace(FINE, flow_s=(7.0,)))], commit="abc", page=page)

    text = page.read_text()
    line = next(line for line in text.splitlines() if line.startswith("| `bridge-kill`"))
    assert line.endswith("| 10 of 30 | 1,400 | 0 | 6 | 0 | 2.5, 7.0 | 31 |")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text


def test_rows_that_are_tried_by_name_have_a_part_of_the_page_and_keep_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}matrix{END}{BY_NAME[0]}{BY_NAME[1]}")
    called = Called(asked=3_000_000, longest_s=31.4)
    soaked = replace(FINE, tries=330, longest_s=42.0, twice=7, many=called, stock=Called(asked=300_000, lost=5))

    write([a_round(row="soak-long", verdict=soaked)], commit="abc", page=page)
    assert "matrix" in page.read_text()
    assert "| all of these | 3,000,700 | 330 | 0 | 0 | 42.0 | 7 |" in page.read_text()
    assert "| stock `send_task` | 300,000 | 30 | 5 | 0 | — | 0 |" in page.read_text()

    write([a_round()], commit="def", page=page)
    assert "3,000,700" in page.read_text()
    assert "matrix" not in page.read_text()


def test_every_row_has_a_piece_to_switch_off() -> None:
    assert [name for name, row in ROWS.items() if not row.broken] == []
    assert {patch for row in ROWS.values() for piece in row.broken for patch in piece.patch.split(",")} <= set(PATCHES)


def test_a_neighbour_whose_tasks_do_not_run_once_each_is_a_complaint_where_it_is_to_be_spared() -> None:
    for stock in (Called(asked=8, twice=1), Called(asked=8, lost=1)):
        told = replace(FINE, duplicated=0, stock=stock)
        assert len(complaints(ROWS["neighbour"], [told])) == 1
        assert complaints(ROWS["worker-kill"], [told]) == []


def test_without_a_piece_the_line_says_what_it_cost(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}{END}")
    told = replace(FINE, lost=7, flow_s=(0.5, None), exits=((None, 60.0),), delay=Called(asked=9, lost=4))

    write([replace(a_round(verdict=told), broken="ack-first")], commit="abc", page=page)

    assert "| 5 | 700 | 7 | 3 | 0 | never | 9 | 1 | 4 | 0 |" in page.read_text()


def test_every_broken_promise_is_a_complaint() -> None:
    row = ROWS["sigterm"]
    kept = replace(FINE, duplicated=0, again=0, exits=((0, 20.0),))

    assert complaints(row, [kept]) == []
    for broken in (
        {"lost": 1},
        {"wrong": 1},
        {"duplicated": 1},
        {"again": 1},
        {"flow_s": (None,)},
        {"flow_s": (61.0,)},
        {"exits": ((1, 2.0),)},
        {"exits": ((0, 26.0),)},
        {"many": Called(asked=5, lost=1)},
        {"delay": Called(asked=5, wrong=1)},
        {"many": Called(error="it ended")},
    ):
        assert len(complaints(row, [replace(kept, **broken)])) == 1, broken


def test_an_answer_that_came_too_late_is_a_complaint_where_the_row_says_how_late() -> None:
    late = replace(FINE, duplicated=0, many=Called(asked=5, longest_s=61.0))

    assert complaints(ROWS["worker-kill"], [late]) == []
    assert complaints(ROWS["soak-long"], [late]) == ["an answer came after 61 s"]
