"""compose.yaml and the Dockerfile say what the CLI and the settings know."""

import importlib
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from lowtide.cli.main import COMMANDS
from lowtide.config import Settings

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def pinned(name: str) -> set[str]:
    """`package==version`."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return set(re.findall(r"^[\w.-]+==[\w.+-]+", text, re.MULTILINE))


def options_of(command: str) -> set[str]:
    loaded: click.Command = importlib.import_module(f"lowtide.cli.commands.{command}").command
    return {option for parameter in loaded.params for option in parameter.opts}


@pytest.mark.parametrize("name", OURS)
def test_a_services_command_and_its_options_exist(name: str) -> None:
    program, command, *options = shlex.split(OURS[name]["command"])

    assert program == "lowtide"
    assert command in COMMANDS
    assert set(options) <= options_of(command)


def test_the_images_default_commands_exist() -> None:
    commands = re.findall(r'CMD \["lowtide", "(\w+)"(?:, "(--[\w-]+)")?\]', DOCKERFILE)

    assert {command for command, _ in commands} == {"autoscale", "bridge", "worker", "flower"}
    for command, option in commands:
        assert {option} - {""} <= options_of(command)


@pytest.mark.parametrize("name", OURS)
def test_a_services_variables_are_settings(name: str) -> None:
    for variable in OURS[name]["environment"]:
        known = variable.removeprefix("LOWTIDE_").lower() in Settings.model_fields
        assert known or variable == "PUBSUB_EMULATOR_HOST", variable


@pytest.mark.parametrize("name", OURS)
def test_a_services_defaults_are_valid_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in OURS[name]["environment"].items():
        monkeypatch.setenv(variable, re.sub(r"\$\{\w+:-(.*)\}", r"\1", str(value)))

    Settings()


@pytest.mark.parametrize("name", OURS)
def test_a_health_check_asks_the_port_that_is_set(name: str) -> None:
    environment = OURS[name]["environment"]
    port = environment.get("LOWTIDE_HEALTH_PORT") or environment["LOWTIDE_FLOWER_PORT"]

    assert f"127.0.0.1:{port}/" in OURS[name]["healthcheck"]["test"][-1]


def test_every_published_port_is_one_that_its_service_listens_on_and_stays_on_this_machine() -> None:
    listening = {"pubsub": "8085", "redis": "6379", "flower": str(OURS["flower"]["environment"]["LOWTIDE_FLOWER_PORT"])}
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published == {name: [f"127.0.0.1:{port}:{port}"] for name, port in listening.items()}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_health_check_time_to_stop_and_no_root(name: str) -> None:
    service = SERVICES[name]

    assert "healthcheck" in service
    assert service["stop_grace_period"] == "30s"
    assert "build" in service or service["user"] != "root"


@pytest.mark.parametrize("name", OURS)
def test_a_services_image_is_a_target_of_the_dockerfile_and_runs_without_root(name: str) -> None:
    target = OURS[name]["build"]["target"]
    stage = re.search(rf"^FROM \S+ AS {target}$(.*?)(?=^FROM|\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)

    assert stage
    assert "USER lowtide" in stage[1]


def test_an_image_is_built_of_every_folder_with_code() -> None:
    allowed = set((ROOT / ".dockerignore").read_text().split())
    folders = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"].values()

    assert {f"!{folder}/" for folder in folders} <= allowed


@pytest.mark.parametrize("name", ["autoscaling", "bridge", "flower", "worker"])
def test_an_image_has_the_versions_that_are_tested(name: str) -> None:
    assert pinned(name) <= pinned("dev")


def test_the_bridges_image_has_no_torch() -> None:
    assert not re.search(r"^torch", (ROOT / "requirements" / "bridge.txt").read_text(), re.MULTILINE)
