"""What we use of Celery, kombu, redis-py and Flower that they do not document: the table in CONTRIBUTING.md."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.unit.test_house import FOLDERS, ROOT, imported

OTHERS = ("billiard", "celery", "flower", "kombu", "redis", "vine")
# Of Celery: tasks, custom requests, the app's hooks, bootsteps. Of kombu: how a transport names its channel.
DOCUMENTED = {
    *("Request", "Strategy", "apply_async", "chunks", "map", "name", "serializer", "signature", "starmap", "subtask"),
    *("info", "terminate"),
    *("amqp_cls", "on_configure"),
    *("requires", "start", "stop"),
    "Channel",
}
ROW = re.compile(r"^\| (?P<parts>.*?) \| (?P<why>.*?) \| (?P<files>.*?) \| (?P<tests>.*?) \|$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Override:
    """What a class of ours has in the place of its base's; `theirs` is None when that has no such thing."""

    file: str
    name: str
    ours: Any
    theirs: Any


def table() -> Iterator[re.Match[str]]:
    _, _, after = (ROOT / "CONTRIBUTING.md").read_text().partition("\n## Private parts of others\n")
    rows = ROW.finditer(after.partition("\n## ")[0])
    yield from list(rows)[1:]


def quoted(text: str) -> list[str]:
    return re.findall("`([^`]+)`", text)


def listed() -> set[tuple[str, str]]:
    return {(file, part) for row in table() for file in quoted(row["files"]) for part in quoted(row["parts"])}


@cache
def files() -> list[tuple[str, ast.Module]]:
    """Of the product, those that know one of the others."""
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    knowing = [path for path in paths if any(name.partition(".")[0] in OTHERS for name in imported(path))]
    return [(str(path.relative_to(ROOT)), ast.parse(path.read_text())) for path in knowing]


def private_names(tree: ast.Module) -> set[str]:
    """Those of attributes that are read and that nothing in the file makes."""
    made, read = set[str](), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("os", "sys"):
            continue
        elif isinstance(node, ast.Attribute):
            own = isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id == "self"
            (made if own else read).add(node.attr)
    return {name for name in read - made if name.startswith("_") and not name.endswith("__")}


@cache
def overrides() -> list[Override]:
    return [
        Override(file, name, value, next((vars(base)[name] for base in theirs if name in vars(base)), None))
        for file, ours, names, theirs in inheriting()
        for name, value in vars(ours).items()
        if name in names and not name.startswith("__") and name not in DOCUMENTED
    ]


def inheriting() -> Iterator[tuple[str, type, set[str], list[type]]]:
    """Classes of ours, with the names in their bodies, and the classes of others that they inherit from."""
    for file, tree in files():
        module = importlib.import_module(f"lowtide.{file.removesuffix('.py').replace('/', '.')}")
        for node in (node for node in tree.body if isinstance(node, ast.ClassDef)):
            ours = getattr(module, node.name)
            theirs = [base for base in ours.__mro__ if base.__module__.partition(".")[0] in OTHERS]
            if theirs:
                yield file, ours, set(named_in(node)), theirs


def named_in(node: ast.ClassDef) -> Iterator[str]:
    """Not all that the class has: redis-py puts scripts into that of a lock when the first is made."""
    for each in node.body:
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            yield each.name
        elif isinstance(each, ast.AnnAssign | ast.Assign):
            targets = each.targets if isinstance(each, ast.Assign) else [each.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_the_table_has_every_private_part_of_others_that_is_used() -> None:
    used = {(file, name) for file, tree in files() for name in private_names(tree)}
    used |= {(override.file, override.name) for override in overrides() if override.theirs is not None}
    assert used - listed() == set()


def test_the_table_has_no_part_that_is_not_used_any_more() -> None:
    gone = {(file, part) for file, part in listed() if part.rpartition(".")[2] not in (ROOT / file).read_text()}
    assert gone == set()


def test_what_is_overridden_is_still_there() -> None:
    moved = {(override.file, override.name) for override in overrides() if override.theirs is None}
    assert moved & listed() == set()


def test_each_part_has_a_test_that_is_there() -> None:
    named = [quoted(row["tests"]) for row in table()]
    assert all(names and all((ROOT / "tests" / name).is_file() for name in names) for names in named)


def test_what_is_overridden_can_be_called_as_it_is_called_there() -> None:
    for override in overrides():
        if inspect.isfunction(override.theirs):
            given = inspect.signature(override.theirs).parameters.values()
            named = [each.name for each in given if each.kind is each.POSITIONAL_OR_KEYWORD]
            inspect.signature(override.ours).bind_partial(*named)
            inspect.signature(override.ours).bind_partial(named[0], **dict.fromkeys(named[1:]))
