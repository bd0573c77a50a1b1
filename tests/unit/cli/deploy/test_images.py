from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lowtide.cli.checks.findings import Verdict
from lowtide.cli.deploy.images import REDIS, driver, redis_images

CHECKOUT = Path(__file__).parents[4]


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


def test_redis_has_the_image_that_terraform_takes_by_default() -> None:
    assert f'"${{var.image_repository}}/{REDIS}"' in (CHECKOUT / "deploy/terraform/control.tf").read_text()


@pytest.mark.parametrize(
    ("image", "memorystore", "wanted"),
    [
        (None, False, [REDIS]),
        ("here/redis:8", False, ["redis:8"]),
        ("there/redis@sha256:0", False, []),
        ("here/redis@sha256:0", False, []),
        (None, True, []),
    ],
)
def test_redis_image_is_looked_for_where_it_has_to_be_in_the_repository(
    image: str | None, memorystore: bool, wanted: list[str]
) -> None:
    chosen: Any = SimpleNamespace(image_repository="here", redis_image=image, has_memorystore=memorystore)
    assert redis_images(chosen) == wanted
