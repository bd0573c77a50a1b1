"""What the tests of deploy/terraform share: a root of their module's own, planned with the stand-in."""

from collections.abc import Iterator

import pytest

from tests.terraform.cli import Terraform
from tests.terraform.provider import Provider, serving


@pytest.fixture(scope="module")
def terraform(terraform_here, tmp_path_factory) -> Iterator[Terraform]:
    """A root as a person has it after `terraform init`."""
    with serving(Provider()) as environment:
        yield Terraform(tmp_path_factory.mktemp("terraform") / "deploy", environment)
