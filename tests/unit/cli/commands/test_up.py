import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lowtide.cli.commands import up
from lowtide.cli.commands.up import command, on_one_machine, welcome
from lowtide.config import load_settings
from lowtide.local import stack as stack_module
from lowtide.local.stack import Stack


def test_the_welcome_shows_how_to_join_but_no_password(tmp_path: Path) -> None:
    secured = load_settings(redis_url="rediss://fleet:hunter2@localhost:6380/0", prefix="up:")
    said = welcome(Stack(secured, folder=tmp_path), flower=False)

    assert "rediss://fleet:…@localhost:6380/0" in said
    assert "with LOWTIDE_REDIS_URL set as in this one" in said
    assert "export LOWTIDE_PREFIX=up: LOWTIDE_PROJECT=lowtide-local" in said
    assert "hunter2" not in said


def test_the_welcome_without_a_subscription_speaks_of_python_callers_alone(tmp_path: Path) -> None:
    said = welcome(Stack(load_settings(subscription=()), folder=tmp_path), flower=False)

    assert "lowtide publish" not in said
    assert "from lowtide.tasks import infer" in said
    assert "LOWTIDE_SUBSCRIPTION=''" in said


def test_the_welcome_of_a_redis_of_its_own_can_be_pasted_whole(tmp_path: Path) -> None:
    said = welcome(Stack(load_settings(), folder=tmp_path), flower=False)

    assert "export LOWTIDE_REDIS_URL=redis://127.0.0.1:" in said


def test_the_welcome_names_the_example_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(load_settings(), folder=tmp_path)
    monkeypatch.chdir(Path(__file__).parents[4])
    assert f"{Path.cwd().as_uri()}/examples/digits/images/0001.png" in welcome(stack, flower=False)

    monkeypatch.chdir(tmp_path)
    said = welcome(stack, flower=False)
    assert "--model digits my-picture.png" in said
    assert f"{tmp_path.as_uri()}/my-picture.png" in said


def test_what_the_welcome_exports_makes_the_system_that_it_is_of(tmp_path: Path) -> None:
    here = load_settings(
        models=("net=a b.net:Net", "digits"),
        fleet="night $HOME",
        fleet_work_s=5.0,
        subscription=("urgent", "lowtide-requests"),
        results_topic="answers",
        flower_basic_auth=("me:hunter2",),
    )
    stack = Stack(here, folder=tmp_path, workers=None, pubsub_host="127.0.0.1:7")
    [line] = [line for line in welcome(stack, flower=False).splitlines() if line.startswith("  export ")]
    exported = dict(word.split("=", 1) for word in shlex.split(line)[1:])

    assert exported["LOWTIDE_FLEET_MESSAGES"] == "0", "as the stack has set it itself"
    assert "hunter2" not in line
    read = {name.removeprefix("LOWTIDE_").lower(): value for name, value in exported.items()}
    for name in ("models", "fleet", "fleet_work_s", "subscription", "results_topic", "monitoring_host", "redis_url"):
        assert read[name] == stack.environment[f"LOWTIDE_{name.upper()}"]


@pytest.mark.parametrize(
    "said",
    [
        {"flower_port": 6001},
        {"flower_url": "http://flower:5555"},
        {"monitoring_host": "127.0.0.1:9"},
        {"fleet_messages": 5},
        {"health_port": 8080},
    ],
)
def test_what_a_person_has_set_is_used_or_left_out(said: dict[str, Any], tmp_path: Path) -> None:
    settings = Stack(load_settings(**said), folder=tmp_path, workers=None, flower=True).settings

    [(name, value)] = said.items()
    assert getattr(settings, name) == (0 if name == "health_port" else value), "the parts can't share a port"


def test_on_one_machine_the_current_folder_is_readable_and_two_workers_are_enough_unless_somebody_says_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("LOWTIDE_FLEET_MAX", "LOWTIDE_FLEET_MIN", "LOWTIDE_FILE_ROOTS"):
        monkeypatch.delenv(name, raising=False)

    assert (on_one_machine(load_settings()).fleet_max, on_one_machine(load_settings()).file_roots) == (
        2,
        (str(Path.cwd()),),
    )
    assert on_one_machine(load_settings(fleet_min=3)).fleet_max == 3
    said = on_one_machine(load_settings(fleet_max=5, file_roots=("/data",)))
    assert (said.fleet_max, said.file_roots) == (5, ("/data",))


@pytest.mark.parametrize("option", [["--boot-delay", "3s"], ["--preempt-every", "1m"], ["--capacity", "0"]])
def test_workers_that_are_always_there_are_no_vms(option: list[str]) -> None:
    refused = CliRunner().invoke(command, ["--workers", "1", *option])

    assert refused.exit_code == 2
    assert "leave out --workers" in refused.output


def test_what_is_said_of_the_vms_reaches_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Made(Exception):
        pass

    class Starting(Stack):
        def start(self) -> None:
            self._start_group()

    def make(*_: Any, **said: Any) -> None:
        raise Made(said["boot_s"], said["preempt_every_s"], said["capacity"]())

    monkeypatch.setattr(stack_module, "Group", make)
    monkeypatch.setattr(stack_module, "Monitoring", lambda settings: None)
    monkeypatch.setattr(up, "Stack", Starting)
    monkeypatch.setenv("LOWTIDE_FLEET_MAX", "7")
    folder = ["--data-dir", str(tmp_path)]

    run = CliRunner().invoke(command, ["--boot-delay", "3s", "--preempt-every", "2m", "--capacity", "4", *folder])
    assert getattr(run.exception, "args", None) == (3.0, 120.0, 4)
    run = CliRunner().invoke(command, folder)
    assert getattr(run.exception, "args", None) == (0.0, 0.0, 7)
