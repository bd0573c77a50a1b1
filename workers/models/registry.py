"""The registry: entries of LOWTIDE_MODELS to Model instances."""

import importlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lowtide.config.settings import Settings, SettingsError
from lowtide.workers.model import Limits, Model
from lowtide.workers.models.names import SHIPPED, installed, known, unknown

Factory = Callable[..., Model]
"""What makes a model: a subclass of Model, or one with its architecture filled in."""


def build_models(settings: Settings) -> dict[str, Model]:
    """A new, not yet loaded Model for each entry of `settings.models`, by the name that requests use, in their order.

    An entry is a name, `name=package.module:Class`, or `name=other-name`, which serves a known model under a name and
    with weights of its own. Names are looked up among the shipped models, then among the entry points of the group
    `lowtide.models`, then among torchvision's classification models. Call it once per device.

    Raises SettingsError that says what was looked for, and where.
    """
    names = settings.model_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingsError(f"LOWTIDE_MODELS serves two models as {', '.join(twice)}: names have to differ")
    limits = Limits(image_max_pixels=settings.image_max_pixels)
    return {
        name: _build(entry, weights=settings.weights.get(name), limits=limits)
        for name, entry in zip(names, settings.models, strict=True)
    }


def _build(entry: str, *, weights: str | None, limits: Limits) -> Model:
    name, _, spec = entry.partition("=")
    factory = _find(spec or name)
    try:
        return factory(name, weights=weights, limits=limits)
    except TypeError as error:  # abstract methods that are missing, or an __init__ of another shape
        raise SettingsError(f"LOWTIDE_MODELS: {entry} can't be made: {error}") from error


def _find(spec: str) -> Factory:
    if ":" in spec:
        return _imported(spec)
    if spec in SHIPPED:
        return _imported(SHIPPED[spec])
    for entry_point in installed().select(name=spec):
        return _imported(f"{entry_point.module}:{entry_point.attr}")
    # Not at the top: torchvision's models take half a second to import, and `digits` alone doesn't need them.
    from lowtide.workers.models.torchvision_classifier import TorchvisionClassifier, architectures

    if spec in architectures():
        return partial(TorchvisionClassifier, architecture=spec)
    raise unknown(spec, [*known(), *architectures()])


def _imported(path: str) -> Factory:
    """The class at `package.module:Class`, with the current folder on `sys.path`, as celery and uvicorn do it."""
    module_name, _, class_name = path.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except ImportError as error:
        raise SettingsError(_import_complaint(path, module_name, error)) from error
    except (AttributeError, ValueError) as error:
        raise SettingsError(f"LOWTIDE_MODELS: {path}: expected package.module:Class; {error}") from error
    if not (isinstance(found, type) and issubclass(found, Model)):
        raise SettingsError(f"LOWTIDE_MODELS: {path} is not a subclass of lowtide.workers.model.Model")
    return found


def _import_complaint(path: str, module_name: str, error: ImportError) -> str:
    """Tells a module that isn't there from one that is, and can't import something itself."""
    absent = isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}.")
    if absent:
        return f"LOWTIDE_MODELS: {path}: there is no module {error.name} in {Path.cwd()} or among installed packages"
    return f"LOWTIDE_MODELS: {path}: {module_name} is there, but importing it failed: {error}"
