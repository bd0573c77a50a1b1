"""What `--help` teaches can be copied."""

import re
import shlex

import click
import pytest
from click.testing import CliRunner

from lowtide.cli.main import COMMANDS, main

WITHOUT_EXAMPLES = {"doctor"}
WITHIN_OTHERS = ["deploy boot-time", "deploy check", "deploy plan", "deploy vars"]


def command_of(name: str) -> click.Command:
    command: click.Command = main
    for word in name.split():
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    return command


def shown(name: str) -> list[str]:
    """The command lines of `lowtide NAME --help`, from `lowtide` on."""
    text = CliRunner().invoke(main, [*name.split(), "--help"]).output
    assert "\\b" not in text
    return re.findall(r"^    .*?(lowtide .*)$", text.partition("Examples:\n")[2], re.MULTILINE)


@pytest.mark.parametrize("name", [*sorted(set(COMMANDS) - WITHOUT_EXAMPLES), *WITHIN_OTHERS])
def test_the_examples_of_a_command_name_only_options_that_it_has(name: str) -> None:
    known = {option for parameter in command_of(name).params for option in parameter.opts}

    lines = shown(name)
    assert lines
    for line in lines:
        _, *words = shlex.split(line)
        assert " ".join(words).startswith(name)
        assert {word for word in words if word.startswith("--")} <= known
