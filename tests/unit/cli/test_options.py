import click
import pytest
from click.testing import CliRunner

from lowtide.cli.main import main
from lowtide.cli.options import DURATION, TEXT, parse_params


@pytest.mark.parametrize(
    ("said", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1.5h", 5400), ("3d", 259_200), ("1w", 604_800)]
)
def test_an_age_is_a_number_and_a_unit(said: str, seconds: float) -> None:
    assert DURATION.convert(said, None, None) == seconds


@pytest.mark.parametrize("said", ["", "2", "h", "-2h", "2 h", "2y", "2h30m", "1e3s", "infs", "nans"])
def test_what_is_no_age_is_refused(said: str) -> None:
    with pytest.raises(click.BadParameter, match="such as 2h"):
        DURATION.convert(said, None, None)


@pytest.mark.parametrize(
    "command",
    [
        ["classify", "x", "--model=m", "--timeout=0s"],
        ["results", "--timeout=0s"],
        ["status", "--watch", "--every=0.0s"],
    ],
)
def test_a_wait_of_nothing_is_refused_for_it_may_be_meant_to_be_without_end(command: list[str]) -> None:
    run = CliRunner().invoke(main, command)

    assert run.exit_code == 2
    assert "0s: expected more than 0" in run.output


def test_a_parameter_that_is_given_twice_is_refused() -> None:
    assert parse_params(["a=1", "b=1"]) == {"a": 1, "b": 1}
    with pytest.raises(click.UsageError, match="--param a: given twice"):
        parse_params(["a=1", "a=2"])


def test_an_option_of_a_variable_that_is_unset_is_not_the_default() -> None:
    with pytest.raises(click.BadParameter, match="is empty: leave the option out"):
        TEXT.convert("", None, None)
