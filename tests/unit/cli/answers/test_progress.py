import pytest

from lowtide.cli.answers.progress import ProgressBar, rounded


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
