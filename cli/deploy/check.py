"""What `lowtide deploy check` looks at, in the order in which problems should be solved."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lowtide.cli.checks.findings import Finding, failed, ok, warning
from lowtide.cli.deploy import access, existing, images, quotas
from lowtide.cli.deploy.apis import GoogleApis
from lowtide.cli.deploy.chosen import Chosen, chosen_by
from lowtide.cli.deploy.errors import ApiRefused, CredentialsMissing, Unprepared
from lowtide.cli.deploy.terraform import Terraform


@dataclass(frozen=True, slots=True, kw_only=True)
class Intended:
    """What the fleet is to be: `variables` of the settings and, once they could be read, those of terraform.tfvars.
    `made`: addresses of what is there already.
    """

    variables: Mapping[str, Any]
    chosen: Chosen | None
    made: frozenset[str] = frozenset()

    @property
    def project(self) -> str:
        """The fleet's."""
        project: str = self.variables["project"]
        return project


def examine(variables: Mapping[str, Any], connect: Callable[[str], tuple[GoogleApis, str]]) -> Iterator[Finding]:
    """Every check. `connect` gives the APIs of a project, and whose credentials they are called by."""
    if shutil.which("gcloud") is None:
        yield warning("gcloud", "not on the PATH", "install it: https://cloud.google.com/sdk/docs/install")
    chosen, made = None, frozenset[str]()
    try:
        terraform = Terraform()
        chosen, made = chosen_by(terraform), terraform.made()
    except Unprepared as error:
        yield failed("Terraform", f"{error.why}. Machines, quotas and images are not looked at", error.remedy)
    else:
        yield ok("Terraform", f"{chosen.worker_machine_type} in {chosen.region}")
    intended = Intended(variables=variables, chosen=chosen, made=made)
    try:
        apis, whose = connect(intended.project)
        yield ok("Credentials", f"{whose}; project {intended.project}")
        yield from examine_project(apis, intended)
    except CredentialsMissing as error:
        yield failed("Credentials", error.why, error.remedy)


def examine_project(apis: GoogleApis, intended: Intended) -> Iterator[Finding]:
    """What can be asked of Google."""
    project = intended.project
    try:
        on = access.enabled(apis, project)
    except ApiRefused as error:
        yield failed("Project", f"{project}: {error}", "correct LOWTIDE_PROJECT, or use credentials that may see it")
        return
    yield from access.services(on, project)
    for service, check in _checks(apis, intended):
        if service in on:
            try:
                yield from check
            except ApiRefused as error:
                yield failed(
                    service, f"could not be looked at: {error}", "let these credentials read it, and try again"
                )


def _checks(apis: GoogleApis, intended: Intended) -> Iterator[tuple[str, Iterator[Finding]]]:
    """Each with the API that it asks."""
    project, variables, chosen = intended.project, intended.variables, intended.chosen
    yield "cloudresourcemanager", access.permissions(apis, project, variables)
    if chosen:
        workers_max = variables["policy"]["max_replicas"]
        yield "compute", quotas.quotas(apis, project, chosen, workers_max=workers_max)
        yield "compute", images.disk_image(apis, chosen)
        yield "artifactregistry", images.containers(apis, chosen)
        yield "secretmanager", images.password(apis, project, chosen)
    yield "monitoring", existing.descriptors(apis, project, variables["metrics"])
    yield "pubsub", existing.pubsub(apis, project, variables["pubsub"], made=intended.made)
