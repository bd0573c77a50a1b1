"""What VMs boot from and run: the workers' disk image and its driver, container images, and Redis' password."""

import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from lowtide.cli.checks.findings import Finding, failed, ok, warning
from lowtide.cli.deploy.apis import GoogleApis
from lowtide.cli.deploy.chosen import Chosen

DRIVER_LABEL = "nvidia-driver"
CUDA_LABEL = "cuda"
"""Labels that deploy/image gives a disk image: versions, with hyphens for dots."""
LEAST_DRIVER = {11: 450, 12: 525, 13: 580}
"""By major version of CUDA, the oldest driver that runs it: NVIDIA's "CUDA Compatibility", page "Minor Version
Compatibility", table 1 (https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html).
"""
IMAGES = ("bridge", "autoscaling", "flower", "worker")
REDIS = "redis:7.4-alpine"
"""That of Redis beside them, if terraform.tfvars names none: as deploy/terraform/control.tf has it."""
_IMAGE = re.compile(r"(?:.*/)?projects/([^/]+)/global/images/((?:family/)?[^/]+)")
_REPOSITORY = re.compile(r"([a-z0-9-]+)-docker\.pkg\.dev/([^/]+)/(.+)")
_VERSION = re.compile(r"\d+")


def disk_image(apis: GoogleApis, chosen: Chosen) -> Iterator[Finding]:
    """Whether it is there, fits the disk, and has a driver for the worker's CUDA."""
    what, name = "Disk image", chosen.worker_boot_image
    parts = _IMAGE.fullmatch(name)
    if parts is None:
        yield warning(what, f"{name}: not looked at", "write it as projects/PROJECT/global/images/[family/]NAME")
        return
    image = apis.get("compute", f"compute/v1/projects/{parts[1]}/global/images/{parts[2]}")
    if image is None:
        yield failed(
            what,
            f"there is no {name}",
            "make it with deploy/image/bake.sh, or correct worker_boot_image in terraform.tfvars",
        )
        return
    if image["status"] != "READY":
        yield failed(what, f"{image['name']} is {image['status']}", "wait until it is READY, or make it again")
        return
    if int(image["diskSizeGb"]) > chosen.worker_boot_disk_gb:
        yield failed(
            what,
            f"{image['name']} has {image['diskSizeGb']} GB, a worker's disk {chosen.worker_boot_disk_gb}",
            f"worker_boot_disk_gb = {image['diskSizeGb']} in terraform.tfvars",
        )
    else:
        yield ok(what, image["name"])
    if chosen.has_gpu:
        yield driver(image.get("labels", {}), cuda=cuda_here())


def cuda_here() -> str | None:
    """The CUDA that this machine's PyTorch was built for: the worker's image is built with the same one."""
    if find_spec("torch") is None:
        return None
    import torch  # the worker's extra may be absent

    return torch.version.cuda


def driver(labels: Mapping[str, str], *, cuda: str | None) -> Finding:
    """Whether an image with such labels has a driver for this CUDA, else for the one that it names itself."""
    what = "Driver"
    version, needs = labels.get(DRIVER_LABEL, ""), cuda or labels.get(CUDA_LABEL, "")
    has, major = _VERSION.match(version), _VERSION.match(needs)
    if has is None:
        said = f"the disk image has no label {DRIVER_LABEL} that names a version"
        return warning(what, said, "make sure that it has NVIDIA's driver, from 580 on")
    least = LEAST_DRIVER.get(int(major[0])) if major else None
    if least is None:
        said = (
            f"{_dotted(version)}; whether PyTorch's CUDA {_dotted(needs) or 'of the worker'} takes it is not known here"
        )
        return warning(what, said, "https://docs.nvidia.com/deploy/cuda-compatibility/ says which driver it needs")
    if int(has[0]) < least:
        said = (
            f"{_dotted(version)} is older than {least}, which CUDA {_dotted(needs)} of PyTorch needs: workers would end"
        )
        return failed(what, said, f"make one with a driver from {least} on: deploy/image/bake.sh does")
    return ok(what, f"{_dotted(version)} runs PyTorch's CUDA {_dotted(needs)}, which needs {least}")


def containers(apis: GoogleApis, chosen: Chosen) -> Iterator[Finding]:
    """Whether our images are in their repository, under the tag."""
    what, repository = "Container images", chosen.image_repository
    parts = _REPOSITORY.fullmatch(repository)
    if parts is None:
        yield warning(what, f"{repository}: not looked at", "write it as REGION-docker.pkg.dev/PROJECT/NAME")
        return
    location, project, name = parts.groups()
    path = f"v1/projects/{project}/locations/{location}/repositories/{name}"
    if apis.get("artifactregistry", path) is None:
        yield failed(
            what,
            f"there is no repository {repository}",
            f"gcloud artifacts repositories create {name} --repository-format=docker --location={location} "
            f"--project={project}",
        )
        return
    wanted = [*(f"{one}:{chosen.image_tag}" for one in IMAGES), *redis_images(chosen)]
    missing = [
        one
        for one in wanted
        if apis.get("artifactregistry", "{}/packages/{}/tags/{}".format(path, *one.rsplit(":", 1))) is None
    ]
    if missing:
        names = ", ".join(missing)
        yield failed(what, f"{repository} has no {names}", "build and push them, or correct image_tag: docs/deploy.md")
    else:
        yield ok(what, f"{', '.join(wanted)} are there")


def redis_images(chosen: Chosen) -> list[str]:
    """Its image, if it has to be in the repository: one from elsewhere has its digest, and Memorystore needs none."""
    image = chosen.redis_image or f"{chosen.image_repository}/{REDIS}"
    name = image.removeprefix(f"{chosen.image_repository}/")
    return [] if chosen.has_memorystore or name == image or "@" in name else [name]


def password(apis: GoogleApis, project: str, chosen: Chosen) -> Iterator[Finding]:
    """Whether there is a password for Redis, without looking at it."""
    what, name = "Redis' password", chosen.redis_password_secret
    newest = apis.get("secretmanager", f"v1/projects/{project}/secrets/{name}/versions/latest")
    if newest is None or newest["state"] != "ENABLED":
        state = (
            "does not exist, or has no version" if newest is None else f"has a newest version that is {newest['state']}"
        )
        yield failed(
            what,
            f"the secret {name} {state}",
            f"openssl rand -hex 24 | tr -d '\\n' | gcloud secrets {'create' if newest is None else 'versions add'} "
            f"{name} --data-file=- --project={project}",
        )
    else:
        yield ok(what, f"the secret {name} has one")


def _dotted(version: str) -> str:
    """As people write it: a label takes no dots."""
    return version.replace("-", ".")
