import io
import sys

import pytest
from rich.text import Text

from lowtide.cli.answers.progress import ProgressBar, rounded


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("rate", "shown"), [(4387.2, "4,387"), (438.7, "439"), (10.0, "10"), (9.94, "9.9"), (0.62, "0.6")]
)
def test_a_slow_rate_is_not_shown_as_nothing(rate: float, shown: str) -> None:
    assert rounded(rate) == shown


def test_in_a_pipe_the_last_line_counts_everything(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("classify", 2) as progress:
        progress.advance(failed=False)
        progress.advance(failed=True)

    assert capsys.readouterr().err.startswith("classify: 2 of 2, ")
    assert (progress.done, progress.failed) == (2, 1)


def test_on_a_terminal_what_is_said_meanwhile_stands_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with ProgressBar("classify", 2) as progress:
        progress.note("Starting")
        progress.begin()
        progress.advance(failed=False)
        progress.note("[red]one \x1b[31m")
        progress.advance(failed=True)

    drawn = [str(Text.from_ansi(line.rpartition("\r")[2])).strip() for line in terminal.getvalue().split("\n")]
    assert [line for line in drawn if line in ("Starting", r"[red]one \x1b[31m")] == ["Starting", r"[red]one \x1b[31m"]
    assert "2/2" in drawn[-2]
    assert "1 failed" in drawn[-2]
