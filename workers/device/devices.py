"""Devices: which ones this machine has, how a batch gets there, and what their errors mean."""

import os
from collections.abc import Sequence

import torch

from lowtide.config import SettingsError

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "alloc_failed")
"""How CUDA, the CPU's allocator and cuBLAS say it in a plain RuntimeError, in lower case."""


def devices_of(setting: str) -> tuple[torch.device, ...]:
    """The devices that LOWTIDE_DEVICE means: `auto` is every CUDA device, else the CPU. Raises SettingsError that
    says what to do when it names one that isn't there.
    """
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if setting == "auto":
        return tuple(torch.device("cuda", index) for index in range(found)) or (torch.device("cpu"),)
    try:
        device = torch.device(setting)
    except RuntimeError as error:
        raise SettingsError(f"LOWTIDE_DEVICE is {setting}: expected auto, cpu or cuda:0") from error
    if device.type == "cuda" and (device.index or 0) >= found:
        raise SettingsError(f"LOWTIDE_DEVICE is {setting}, and this machine has {found} CUDA devices: set auto or cpu")
    return (torch.device("cuda", device.index or 0) if device.type == "cuda" else device,)


def enter(device: torch.device) -> None:
    """Make the calling thread the one of `device`. The CPU's gets every core; see `spare_the_cores`."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(os.cpu_count() or 1)


def spare_the_cores() -> None:
    """Give the calling thread one core: there are many like it, each with an OpenMP team of its own otherwise."""
    torch.set_num_threads(1)


def to_device(items: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
    """The items as one batch on `device`. The copy to a GPU runs from pinned memory, beside the Python that follows."""
    if device.type != "cuda":
        return torch.stack(list(items))
    # PyTorch caches pinned blocks and gives one out again only after the copy from it has ended.
    pinned = torch.empty((len(items), *items[0].shape), dtype=items[0].dtype, pin_memory=True)
    torch.stack(list(items), out=pinned)
    return pinned.to(device, non_blocking=True)


def out_of_memory(error: BaseException) -> bool:
    """True when a smaller batch may do."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _OUT_OF_MEMORY)


def broken(error: BaseException) -> bool:
    """True when the device's context is lost: everything that this process tries on it fails from now on."""
    return isinstance(error, torch.AcceleratorError) and not out_of_memory(error)


def free_memory(device: torch.device) -> None:
    """Give cached blocks back, so that smaller ones fit."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
