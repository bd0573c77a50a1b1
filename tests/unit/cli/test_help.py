"""What `--help` teaches can be copied."""

import importlib
import re
import shlex

import click
import pytest
from click.testing import CliRunner

from lowtide.cli.main import COMMANDS, main

WITHOUT_EXAMPLES = {"doctor"}


def shown(name: str) -> list[str]:
    """The command lines of `lowtide NAME --help`, from `lowtide` on."""
    text = CliRunner().invoke(main, [name, "--help"]).output
    assert "\\b" not in text
    return re.findall(r"^    .*?(lowtide .*)$", text.partition("Examples:\n")[2], re.MULTILINE)


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - WITHOUT_EXAMPLES))
def test_the_examples_of_a_command_name_only_options_that_it_has(name: str) -> None:
    command: click.Command = importlib.import_module(f"lowtide.cli.commands.{name}").command
    known = {option for parameter in command.params for option in parameter.opts}

    lines = shown(name)
    assert lines
    for line in lines:
        _, called, *words = shlex.split(line)
        assert called == name
        assert {word for word in words if word.startswith("--")} <= known
