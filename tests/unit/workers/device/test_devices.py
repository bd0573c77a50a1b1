import pytest
import torch

from lowtide.config import SettingsError
from lowtide.workers.device.devices import broken, devices_of, out_of_memory


def test_auto_is_every_cuda_device_or_else_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices_of("auto") == (torch.device("cpu"),)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices_of("auto") == (torch.device("cuda:0"), torch.device("cuda:1"))
    assert devices_of("cuda") == (torch.device("cuda:0"),)
    assert devices_of("cpu") == (torch.device("cpu"),)


@pytest.mark.parametrize("setting", ["cuda:2", "gpu", ""])
def test_a_device_that_is_not_there_is_a_setting_to_correct(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SettingsError, match="LOWTIDE_DEVICE"):
        devices_of(setting)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        torch.AcceleratorError("CUDA error: out of memory"),
    ],
)
def test_out_of_memory_is_told_from_a_broken_device(error: Exception) -> None:
    assert out_of_memory(error)
    assert not broken(error)


def test_a_lost_context_is_broken_and_a_models_own_error_is_neither() -> None:
    assert broken(torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
    for error in (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("out of memory queue")):
        assert not broken(error)
        assert not out_of_memory(error)
