import pytest

from lowtide.cli.checks.findings import Verdict
from lowtide.cli.deploy.images import driver


@pytest.mark.parametrize(
    ("version", "cuda", "verdict"),
    [
        ("580-95-05", "13.2", Verdict.OK),
        ("570-211-01", "13.0", Verdict.FAILED),
        ("570-211-01", "12.8", Verdict.OK),
        ("525-60-13", "12.0", Verdict.OK),
        ("470-256-02", "12.0", Verdict.FAILED),
        ("450-80-02", "11.8", Verdict.OK),
        ("590-10-01", "14.0", Verdict.WARNING),
        ("none", "13.2", Verdict.WARNING),
        ("580-95-05", None, Verdict.WARNING),
    ],
)
def test_a_driver_runs_the_cuda_of_its_time_and_before(version: str, cuda: str | None, verdict: Verdict) -> None:
    assert driver({"nvidia-driver": version}, cuda=cuda).verdict is verdict


def test_where_no_torch_is_the_image_itself_says_what_it_needs() -> None:
    finding = driver({"nvidia-driver": "570-211-01", "cuda": "13-2"}, cuda=None)

    assert finding.verdict is Verdict.FAILED
    assert "570.211.01 is older than 580, which CUDA 13.2" in finding.message
