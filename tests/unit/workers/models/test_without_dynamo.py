import importlib
import inspect
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from lowtide.workers.models import without_dynamo as under_test
from lowtide.workers.models.without_dynamo import without_dynamo

COMPILER = "pretended.compiler"

FILES = {
    "__init__.py": "",
    "compiler/__init__.py": f"from {COMPILER}.utils import answer",
    "compiler/utils.py": "answer = 42\ndef is_compile_supported(device_type): return f'of {device_type}'",
    "detection.py": f"from {COMPILER}.utils import is_compile_supported",
    "failing.py": f"import {COMPILER}.utils\nraise OSError('no such library')",
}


@pytest.fixture(autouse=True)
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules in the places of torch's compiler, and of those of torchvision that import it."""
    for name, text in FILES.items():
        path = tmp_path / "pretended" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(under_test, "COMPILER", COMPILER)
    monkeypatch.setattr(under_test, "MODULE", f"{COMPILER}.utils")
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "pretended"]:
        del sys.modules[name]


def imported(name: str) -> ModuleType:
    return importlib.import_module(name)


def compilers() -> list[str]:
    return sorted(name for name in sys.modules if name.startswith(COMPILER))


def test_what_is_imported_loads_the_compiler_when_it_calls_it() -> None:
    with without_dynamo():
        detection = imported("pretended.detection")
    assert compilers() == []

    assert detection.is_compile_supported("cuda") == "of cuda"
    assert imported(COMPILER).answer == 42


def test_an_import_that_fails_leaves_no_stand_in() -> None:
    with pytest.raises(OSError, match="no such library"), without_dynamo():
        imported("pretended.failing")

    assert compilers() == []
    assert imported(f"{COMPILER}.utils").answer == 42


def test_a_compiler_that_is_loaded_stays() -> None:
    real = imported(f"{COMPILER}.utils")
    with without_dynamo():
        assert imported(f"{COMPILER}.utils") is real

    assert imported(f"{COMPILER}.utils") is real


def test_another_thread_that_imports_the_compiler_meanwhile_gets_it() -> None:
    found = []
    with without_dynamo():
        thread = threading.Thread(target=lambda: found.append(imported(COMPILER).answer))
        thread.start()
        thread.join()
        real = sys.modules[f"{COMPILER}.utils"]

    assert found == [42]
    assert inspect.getsourcefile(real)
    assert sys.modules[f"{COMPILER}.utils"] is real


def test_who_looks_through_all_modules_loads_no_compiler() -> None:
    """As torch does, to tell where an operator was registered."""
    with without_dynamo():
        inspect.getmodule(compile("", "of no module", "exec"))
        assert compilers() == [f"{COMPILER}.utils"]


TORCHVISION = """
import sys

import torch

from lowtide.workers.models.torchvision_classifier import TorchvisionClassifier
from lowtide.workers.device.runner import Runner

CPU = torch.device("cpu")
torch.set_num_threads(1)

model = TorchvisionClassifier("squeezenet1_1", weights="random")
model.load(CPU)
runner = Runner(CPU)
with torch.inference_mode():
    for model._half in (False, True):
        runner.run(model, [torch.zeros(3, 224, 224, dtype=torch.uint8)] * 2)
print("torch._dynamo" in sys.modules)

from torchvision.ops import roi_align

torch.use_deterministic_algorithms(True)  # else it does not ask whether the device can compile
print(tuple(roi_align(torch.rand(1, 3, 8, 8), [torch.tensor([[0.0, 0.0, 4.0, 4.0]])], 2).shape))
print(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item())
print("torch._dynamo" in sys.modules)
"""


def test_a_torchvision_model_answers_without_the_compiler_and_who_wants_the_compiler_has_it() -> None:
    run = subprocess.run([sys.executable, "-c", TORCHVISION], capture_output=True, text=True, timeout=100)

    assert (run.stdout.split("\n"), run.stderr) == (["False", "(1, 3, 2, 2)", "2.0", "True", ""], "")
