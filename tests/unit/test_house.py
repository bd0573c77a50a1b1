"""The rules of the house that no linter knows."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = ("autoscaling", "bridge", "cli", "config", "local", "tasks", "workers")


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_wheel_holds_every_package_of_the_checkout() -> None:
    found = {
        "lowtide." + ".".join(init.parent.relative_to(ROOT).parts)
        for folder in FOLDERS
        for init in (ROOT / folder).rglob("__init__.py")
    }

    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


def test_every_top_level_folder_with_code_of_ours_is_mapped_and_typed() -> None:
    mapped = PROJECT["tool"]["setuptools"]["package-dir"]

    for folder in FOLDERS:
        assert mapped[f"lowtide.{folder}"] == folder
        assert (ROOT / folder / "py.typed").is_file()
        assert (ROOT / "typings" / "lowtide" / folder).resolve() == ROOT / folder


def test_only_the_bridge_imports_the_pubsub_client() -> None:
    for folder in set(FOLDERS) - {"bridge"}:
        for file in (ROOT / folder).rglob("*.py"):
            assert not [name for name in imported(file) if name.startswith("google.cloud.pubsub")], file
