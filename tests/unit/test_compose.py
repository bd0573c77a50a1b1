"""compose.yaml and the Dockerfile say what the CLI and the settings know."""

import importlib
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from lowtide.cli.main import COMMANDS
from lowtide.config import Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
PROCESSES = {name: service for name, service in OURS.items() if service["command"].startswith("lowtide ")}
"""All of ours but what stands for Google Cloud."""
KILLED_AFTER_S = 5.0
"""After the grace period, as on VMs (`stop_s` of deploy/terraform/boot.tf)."""
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def pinned(name: str) -> set[str]:
    """`package==version`."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return set(re.findall(r"^[\w.-]+==[\w.+-]+", text, re.MULTILINE))


def assert_exists(words: list[str]) -> None:
    """A command line of ours, with every option that it has."""
    match words:
        case ["lowtide", command, *arguments] if command in COMMANDS:
            loaded: click.Command = importlib.import_module(f"lowtide.cli.commands.{command}").command
        case ["python", "-m", module, *arguments]:
            loaded = importlib.import_module(module).main
        case _:
            pytest.fail(f"there is no {shlex.join(words)}")
    loaded.make_context("", arguments)


@pytest.mark.parametrize("command", [service["command"] for service in OURS.values()])
def test_a_services_command_and_its_options_exist(command: str) -> None:
    assert_exists(shlex.split(command))


def test_the_images_default_commands_exist() -> None:
    commands = [json.loads(given) for given in re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)]

    assert len(commands) == len(re.findall(r"^USER lowtide$", DOCKERFILE, re.MULTILINE))
    for command in commands:
        assert_exists(command)


@pytest.mark.parametrize("name", PROCESSES)
def test_a_services_variables_are_settings(name: str) -> None:
    for variable in OURS[name]["environment"]:
        known = variable.removeprefix("LOWTIDE_").lower() in Settings.model_fields
        assert known or variable == "PUBSUB_EMULATOR_HOST", variable


@pytest.mark.parametrize("name", PROCESSES)
def test_a_services_defaults_are_valid_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in OURS[name]["environment"].items():
        monkeypatch.setenv(variable, re.sub(r"\$\{\w+:-(.*)\}", r"\1", str(value)))

    load_settings()


@pytest.mark.parametrize("name", PROCESSES)
def test_a_health_check_asks_the_port_that_is_set(name: str) -> None:
    environment = OURS[name]["environment"]
    port = environment.get("LOWTIDE_HEALTH_PORT") or environment["LOWTIDE_FLOWER_PORT"]

    assert f"127.0.0.1:{port}/" in OURS[name]["healthcheck"]["test"][-1]


def test_every_published_port_is_one_that_its_service_listens_on_and_stays_on_this_machine() -> None:
    listening = {
        "cloud": shlex.split(OURS["cloud"]["command"])[-1],
        "redis": "6379",
        "flower": OURS["flower"]["environment"]["LOWTIDE_FLOWER_PORT"],
        "autoscale": OURS["autoscale"]["environment"]["LOWTIDE_METRICS_PORT"],
    }
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published == {name: [f"127.0.0.1:{port}:{port}"] for name, port in listening.items()}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_health_check_time_to_stop_and_no_root(name: str) -> None:
    service = SERVICES[name]

    assert "healthcheck" in service
    assert float(service["stop_grace_period"].removesuffix("s")) >= Settings().grace_s + KILLED_AFTER_S
    assert "build" in service or service["user"] != "root"


@pytest.mark.parametrize("name", OURS)
def test_a_services_image_is_a_target_of_the_dockerfile_and_runs_without_root(name: str) -> None:
    target = OURS[name]["build"]["target"]
    stage = re.search(rf"^FROM \S+ AS {target}$(.*?)(?=^FROM|\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)

    assert stage
    assert "USER lowtide" in stage[1]


def test_an_image_from_elsewhere_has_a_version() -> None:
    bases = re.findall(r"^FROM (\S+:\S+)", DOCKERFILE, re.MULTILINE)
    images = [*bases, *(service["image"] for service in SERVICES.values() if "image" in service)]

    assert len(images) >= 2
    for image in images:
        assert re.search(r":\d+\.\d+", image), image


def test_an_image_is_built_of_every_folder_with_code() -> None:
    allowed = set((ROOT / ".dockerignore").read_text().split())
    folders = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"].values()

    assert {f"!{folder}/" for folder in folders} <= allowed


@pytest.mark.parametrize("name", ["autoscaling", "bridge", "flower", "worker"])
def test_an_image_has_the_versions_that_are_tested(name: str) -> None:
    assert pinned(name) <= pinned("dev")


def test_the_bridges_image_has_no_torch() -> None:
    assert not re.search(r"^torch", (ROOT / "requirements" / "bridge.txt").read_text(), re.MULTILINE)
