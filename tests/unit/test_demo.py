import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

import pytest

from lowtide.tasks.errors import LowtideError

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.py"


class System:
    """In place of the whole one: runs of `lowtide classify` on it write what `answers` say."""

    environment: ClassVar[dict[str, str]] = {"LOWTIDE_PROJECT": "lowtide-local"}

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.terminal: dict[str, str] = {}
        self.runs: list[dict[str, str]] = []
        self.models: tuple[str, ...] = ()
        self.exit_code = 0

    def __call__(self, settings: Any, *, folder: Path, alone: bool) -> "System":
        assert alone
        self.models = settings.models
        self.terminal = dict(os.environ)
        return self

    def __enter__(self) -> "System":
        return self

    def __exit__(self, *_: object) -> None: ...

    def wait_ready(self) -> None: ...

    def classify(self, command: list[str], *, env: dict[str, str]) -> SimpleNamespace:
        self.runs.append(env)
        *paths, _, output, overwrite, report = command[4:]
        assert overwrite == "--overwrite"
        assert report == f"--report={output.partition('=')[2].replace('.jsonl', '.html')}"
        pictures = [each for path in map(Path, paths) for each in (sorted(path.iterdir()) if path.is_dir() else [path])]
        rows = [
            {"request_id": str(path), "outputs": [{"label": self.answers[path.name], "score": 0.5}]}
            for path in pictures
        ]
        Path(output.partition("=")[2]).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return SimpleNamespace(returncode=self.exit_code)


@pytest.fixture(scope="module")
def demo() -> Any:
    return imported()


def imported() -> Any:
    spec = spec_from_file_location("demo", DEMO)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def system(demo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    """One that answers everything as it is."""
    digits = (row.split(",") for row in (DEMO.parent / "digits" / "labels.csv").read_text().split()[1:])
    photographs = {path.name: "moped" for path in demo.photographs()}
    standing_in = System({**photographs, "coffee.png": "espresso", "chelsea.png": "tabby", **dict(digits)})
    monkeypatch.setattr(demo, "Stack", standing_in)
    monkeypatch.setattr(subprocess, "run", standing_in.classify)
    monkeypatch.chdir(tmp_path)
    with mock.patch.dict(os.environ):  # of which the demo takes much away
        yield standing_in


def test_photographs_and_digits_are_classified_on_one_system(
    demo: Any, system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main() == 0
    assert [entry.partition("=")[0] for entry in system.models] == ["efficientnet_lite0", "digits"]
    assert [run["LOWTIDE_PROJECT"] for run in system.runs] == ["lowtide-local"] * 2
    printed = capsys.readouterr().out
    assert "\ncoffee           espresso   0.50\n" in printed
    assert "Accuracy: 100.0% (360 of 360 held-out digits)" in printed


def test_ctrl_c_while_the_demo_is_imported_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted = ModuleType("lowtide.local.stack")
    interrupted.__getattr__ = mock.Mock(side_effect=KeyboardInterrupt)
    monkeypatch.setitem(sys.modules, "lowtide.local.stack", interrupted)
    with pytest.raises(SystemExit) as ended:
        imported()
    assert ended.value.code == 130


def test_the_demo_sends_nothing_to_a_fleet_that_the_terminal_still_names(demo: Any, system: System) -> None:
    os.environ.update(
        LOWTIDE_PROJECT="my-project", LOWTIDE_MODELS="resnet101", PUBSUB_EMULATOR_HOST="127.0.0.1:8085", HOME="/here"
    )
    demo.main()

    assert system.models == demo.MODELS
    for environment in (system.terminal, *system.runs):
        named = {name: value for name, value in environment.items() if name.startswith(("LOWTIDE_", "PUBSUB_"))}
        assert named.items() <= System.environment.items()
        assert environment["HOME"] == "/here"


def test_workers_find_the_model_of_photographs_beside_what_the_terminal_adds(demo: Any, system: System) -> None:
    os.environ["PYTHONPATH"] = "/mine"
    demo.main()
    first, *others = system.terminal["PYTHONPATH"].split(os.pathsep)
    assert (Path(first) / "efficientnet_lite0.py").is_file()
    assert others == ["/mine"]


@pytest.mark.parametrize(("photograph", "answer"), [("coffee", "cup"), ("chelsea", "red fox")])
def test_a_wrong_answer_for_the_coffee_or_the_cat_fails_the_demo_and_is_named(
    demo: Any, system: System, capsys: pytest.CaptureFixture[str], photograph: str, answer: str
) -> None:
    system.answers[f"{photograph}.png"] = answer
    assert demo.main() == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"{photograph} is a photograph of ")
    assert "Accuracy: " in captured.out


@pytest.mark.parametrize(("wrong", "exit_code"), [(10, 0), (11, 1)])  # of 360: 97.2 and 96.9 %
def test_fewer_than_97_of_100_digits_fail_the_demo(demo: Any, system: System, wrong: int, exit_code: int) -> None:
    system.answers.update({f"{number:04}.png": "none" for number in range(1, wrong + 1)})
    assert demo.main() == exit_code


def test_a_run_that_fails_ends_the_demo_with_its_exit_code(demo: Any, system: System) -> None:
    system.exit_code = 130
    with pytest.raises(SystemExit) as caught:
        demo.main()
    assert caught.value.code == 130
    assert len(system.runs) == 1


def test_results_of_an_earlier_demo_are_replaced_and_other_files_stay(
    demo: Any, system: System, tmp_path: Path
) -> None:
    for name in ("demo-digits.jsonl", "demo-photographs.jsonl", "results.jsonl"):
        (tmp_path / name).write_text("earlier")
    demo.main()
    assert (tmp_path / "results.jsonl").read_text() == "earlier"
    assert len((tmp_path / "demo-photographs.jsonl").read_text().splitlines()) == len(demo.photographs())
    assert len((tmp_path / "demo-digits.jsonl").read_text().splitlines()) == 360


def test_photographs_of_a_package_that_is_not_there_are_said_to_be_missing(demo: Any) -> None:
    with pytest.raises(LowtideError, match="no_such_package, which is not installed"):
        demo.folder_of("no_such_package")


def test_columns_are_as_wide_as_what_is_in_them(demo: Any) -> None:
    best = {"b": {"label": "cat", "score": 1.0}, "astronaut": {"label": "football helmet", "score": 0.0049}}
    assert demo.table(best).splitlines() == [
        "Photograph  Answer           Score",
        "astronaut   football helmet   0.00",
        "b           cat               1.00",
    ]
