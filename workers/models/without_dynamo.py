"""`without_dynamo`: torchvision is imported without torch's compiler, which classification models don't need."""

import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"
MODULE = f"{COMPILER}.utils"

_removal = threading.Lock()


class _StandIn(ModuleType):
    """`torch._dynamo.utils` until somebody needs it: what is asked of it is the real one's answer."""

    @staticmethod
    def is_compile_supported(device_type: Any) -> Any:
        """The real one's answer."""
        return importlib.import_module(MODULE).is_compile_supported(device_type)

    def __getattr__(self, name: str) -> Any:
        """Another thread may import the compiler meanwhile, whose own modules find this one."""
        if name.startswith("__"):  # as `inspect` asks of every module
            raise AttributeError(name)
        _remove(self)
        return getattr(importlib.import_module(MODULE), name)


@contextmanager
def without_dynamo() -> Iterator[None]:
    """What is imported inside may import `is_compile_supported` of `torch._dynamo.utils` without loading that.

    torchvision's `roi_align`, which is for detection, does so, and calls it only where algorithms have to be
    deterministic. With it come `torch._dynamo`, `torch._inductor`, triton and sympy: nine tenths of the
    time that importing torchvision takes. Python looks for a module among those that are loaded before it imports its
    parents, so it finds the stand-in. Later imports find the real one.
    """
    if COMPILER in sys.modules or MODULE in sys.modules:
        yield
        return
    stand_in = _StandIn(MODULE)
    sys.modules[MODULE] = stand_in
    try:
        yield
    finally:
        _remove(stand_in)


def _remove(stand_in: ModuleType) -> None:
    with _removal:
        if sys.modules.get(MODULE) is stand_in:
            del sys.modules[MODULE]
