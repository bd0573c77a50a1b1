"""The rules of the house that no linter knows."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENTRIES_MAX = 16
HIDDEN = {"__init__", "__pycache__", "py"}
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


def test_only_the_wire_to_pubsub_and_the_local_server_import_its_types() -> None:
    importers = {
        str(file.parent.relative_to(ROOT))
        for folder in FOLDERS
        for file in (ROOT / folder).rglob("*.py")
        if any(name.startswith(("google.pubsub", "google.cloud.pubsub")) for name in imported(file))
    }

    assert importers == {"bridge/pubsub", "local/pubsub"}


def classes() -> Iterator[tuple[str, Path]]:
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*.py"):
            yield from (
                (node.name, file) for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef)
            )


def test_no_two_classes_have_one_name() -> None:
    files: dict[str, list[Path]] = {}
    for name, file in classes():
        files.setdefault(name, []).append(file.relative_to(ROOT))

    assert {name: found for name, found in files.items() if len(found) > 1} == {}


def test_a_folder_shows_few_entries() -> None:
    """Tests of a file have its name; `__init__.py` and `py.typed` lead nowhere."""
    entries = {
        folder.relative_to(ROOT): len({entry.stem for entry in folder.iterdir() if entry.stem.isidentifier()} - HIDDEN)
        for top in FOLDERS
        for folder in [ROOT / top, *(ROOT / top).rglob("*/")]
        if "__pycache__" not in folder.parts
    }

    assert {folder: count for folder, count in entries.items() if count > ENTRIES_MAX} == {}
