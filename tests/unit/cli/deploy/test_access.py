import re
from pathlib import Path

from lowtide.cli.deploy.access import PERMISSIONS, SERVICES

ROOT = Path(__file__).resolve().parents[4]


def test_every_kind_of_resource_that_terraform_makes_has_its_permissions() -> None:
    code = "\n".join(file.read_text() for file in (ROOT / "deploy" / "terraform").glob("*.tf"))

    assert PERMISSIONS.keys() == set(re.findall(r'^resource "(\w+)"', code, re.MULTILINE))


def test_the_apis_are_those_that_the_docs_enable() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text()
    [told] = re.findall(r"^\$ gcloud services enable (.*?)\n\$", page, re.DOTALL | re.MULTILINE)

    assert set(re.findall(r"(\w+)\.googleapis\.com", told)) == set(SERVICES)
