"""`lowtide deploy check` asks Google's REST APIs what they have, and says what to do: against a stand-in that knows
Google's discovery documents, of a project in which all is well but for one thing.
"""

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession

from lowtide.cli.checks.findings import Finding, Verdict
from lowtide.cli.deploy import access, images
from lowtide.cli.deploy.apis import GoogleApis
from lowtide.cli.deploy.check import Intended, examine_project
from lowtide.cli.deploy.chosen import read_chosen
from lowtide.cli.deploy.quotas import GPU_QUOTAS
from lowtide.cli.deploy.variables import variables_of
from lowtide.config import load_settings
from tests.fleet import LOWTIDE
from tests.google import renew
from tests.google.discovery import Discovery, documents
from tests.google.stand_in import Answer, GoogleStandIn, serving_google

VARIABLES = variables_of(load_settings(project="my-project", fleet_max=10)).values
CHOSEN = {
    "region": "us-central1",
    "image_repository": "us-central1-docker.pkg.dev/my-project/lowtide",
    "image_tag": "0.1.0",
    "redis_disk_gb": 10,
    "redis_image": None,
    "redis_password_secret": "lowtide-redis-password",
    "worker_boot_disk_gb": 50,
    "worker_boot_image": "projects/my-project/global/images/family/lowtide-worker",
    "worker_gpu": None,
    "worker_machine_type": "g2-standard-4",
    "worker_zones": ["us-central1-a", "us-central1-b"],
    "has_gpu": True,
    "has_memorystore": False,
}
COMPUTE = "compute/compute/v1/projects/my-project"
REGION = f"{COMPUTE}/regions/us-central1"
TYPES = f"{COMPUTE}/aggregated/machineTypes"
IMAGE = f"{COMPUTE}/global/images/family/lowtide-worker"
REPOSITORY = "artifactregistry/v1/projects/my-project/locations/us-central1/repositories/lowtide"
SECRET = "secretmanager/v1/projects/my-project/secrets/lowtide-redis-password/versions/latest"
DESCRIPTORS = "monitoring/v3/projects/my-project/metricDescriptors"
SIGNAL = "custom.googleapis.com/lowtide/gpu_seconds_outstanding"
QUOTAS = {
    "PREEMPTIBLE_NVIDIA_L4_GPUS": 10,
    "CPUS": 100,
    "PREEMPTIBLE_CPUS": 0,
    "SSD_TOTAL_GB": 1000,
    "INSTANCES": 100,
}
EVERYWHERE = {"GPUS_ALL_REGIONS": 10, "CPUS_ALL_REGIONS": 100}

Break = Callable[[GoogleStandIn], object]


def quotas(limits: dict[str, float]) -> Answer:
    return {"quotas": [{"metric": metric, "limit": limit, "usage": 0} for metric, limit in limits.items()]}


def machine_types(*zones: str) -> list[Answer]:
    """One zone a page, after one of a region elsewhere."""
    machine = {
        "name": "g2-standard-4",
        "guestCpus": 4,
        "accelerators": [{"guestAcceleratorType": "nvidia-l4", "guestAcceleratorCount": 1}],
    }
    nothing = {"warning": {"code": "NO_RESULTS_ON_PAGE"}}
    return [
        {"items": {"zones/europe-west4-a": {"machineTypes": [machine]}, "regions/us-central1": nothing}},
        *({"items": {f"zones/{zone}": {"machineTypes": [machine]}}} for zone in zones),
    ]


def image(**labels: str) -> Answer:
    return {"name": "lowtide-worker-1", "status": "READY", "diskSizeGb": "40", "labels": labels}


@pytest.fixture
def google() -> Iterator[GoogleStandIn]:
    """A project that lacks nothing."""
    with serving_google() as stand_in:
        stand_in.enabled |= set(access.SERVICES)
        stand_in.granted |= {one for ones in access.PERMISSIONS.values() for one in ones}
        stand_in.things |= {
            COMPUTE: quotas(EVERYWHERE),
            REGION: quotas(QUOTAS),
            TYPES: machine_types("us-central1-a", "us-central1-b"),
            IMAGE: image(**{images.DRIVER_LABEL: "580-95-05", images.CUDA_LABEL: "13-0"}),
            REPOSITORY: {"format": "DOCKER"},
            **{f"{REPOSITORY}/packages/{name}/tags/0.1.0": {"version": "sha256:0"} for name in images.IMAGES},
            f"{REPOSITORY}/packages/redis/tags/7.4-alpine": {"version": "sha256:0"},
            SECRET: {"state": "ENABLED"},
            DESCRIPTORS: [{}],
        }
        yield stand_in


@pytest.fixture(autouse=True)
def _cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of the machine on which the tests run."""
    monkeypatch.setattr(images, "cuda_here", lambda: "13.2")


def findings(
    google: GoogleStandIn, *, variables: dict[str, Any] = VARIABLES, made: frozenset[str] = frozenset(), **chosen: Any
) -> list[Finding]:
    session = AuthorizedSession(AnonymousCredentials())
    intended = Intended(variables=variables, chosen=read_chosen({**CHOSEN, **chosen}), made=made)
    return list(examine_project(GoogleApis(session, base=google.base), intended))


def said(found: list[Finding], verdict: Verdict) -> str:
    return "\n".join(f"{one.what}: {one.message} → {one.remedy}" for one in found if one.verdict is verdict)


def test_of_a_project_that_lacks_nothing_all_is_well(google: GoogleStandIn) -> None:
    found = findings(google)

    assert {one.verdict for one in found} == {Verdict.OK}, found
    assert [one.what for one in found] == [
        "APIs",
        "Permissions",
        "Machines",
        "Quotas",
        "Disk image",
        "Driver",
        "Container images",
        "Redis' password",
        "Metrics",
        "Pub/Sub",
    ]
    assert "room for 10 workers: PREEMPTIBLE_NVIDIA_L4_GPUS" in said(found, Verdict.OK)


def test_every_method_of_the_discovery_documents_is_asked(google: GoogleStandIn) -> None:
    findings(google)
    findings(google, worker_boot_image="projects/my-project/global/images/lowtide-worker-1")

    assert set(google.asked) == set().union(*renew.USED.values())


@pytest.mark.parametrize(
    ("broken", "verdict", "words"),
    [
        (
            lambda google: google.enabled.remove("pubsub"),
            Verdict.FAILED,
            ("not enabled: pubsub.googleapis.com", "gcloud services enable --project=my-project pubsub.googleapis.com"),
        ),
        (
            lambda google: google.granted.remove("compute.autoscalers.create"),
            Verdict.FAILED,
            ("lack compute.autoscalers.create", "roles/owner"),
        ),
        (
            lambda google: google.granted.clear(),
            Verdict.FAILED,
            ("lack artifactregistry.repositories.setIamPolicy, compute.addresses.createInternal",),
        ),
        (
            lambda google: google.things.update({REGION: quotas({**QUOTAS, "PREEMPTIBLE_NVIDIA_L4_GPUS": 0})}),
            Verdict.FAILED,
            (
                "PREEMPTIBLE_NVIDIA_L4_GPUS in us-central1 is 0: no worker will ever start",
                "ask for 10: https://console.cloud.google.com/iam-admin/quotas?project=my-project",
            ),
        ),
        (
            lambda google: google.things.update({COMPUTE: quotas({**EVERYWHERE, "GPUS_ALL_REGIONS": 3})}),
            Verdict.WARNING,
            ("GPUS_ALL_REGIONS is 3: room for 3 workers of 10", "or set LOWTIDE_FLEET_MAX to 3"),
        ),
        (
            lambda google: google.things.update({REGION: quotas({**QUOTAS, "CPUS": 24})}),
            Verdict.WARNING,
            ("CPUS in us-central1 is 24: room for 5 workers of 10", "ask for 42"),
        ),
        (
            lambda google: google.things.update({REGION: quotas({**QUOTAS, "SSD_TOTAL_GB": 500})}),
            Verdict.WARNING,
            ("SSD_TOTAL_GB in us-central1 is 500: room for 9 workers of 10", "ask for 530"),
        ),
        (
            lambda google: google.things.update({TYPES: machine_types("us-central1-a")}),
            Verdict.FAILED,
            ("us-central1-b: no g2-standard-4 there, but in us-central1-a", "worker_zones"),
        ),
        (
            lambda google: google.things.update({TYPES: machine_types()}),
            Verdict.FAILED,
            ("no zone of us-central1 has g2-standard-4", "gcloud compute machine-types list"),
        ),
        (
            lambda google: google.things.pop(IMAGE),
            Verdict.FAILED,
            ("there is no projects/my-project/global/images/family/lowtide-worker", "worker_boot_image"),
        ),
        (
            lambda google: google.things.update({IMAGE: image() | {"status": "PENDING"}}),
            Verdict.FAILED,
            ("lowtide-worker-1 is PENDING",),
        ),
        (
            lambda google: google.things.update({IMAGE: image() | {"diskSizeGb": "64"}}),
            Verdict.FAILED,
            ("lowtide-worker-1 has 64 GB, a worker's disk 50", "worker_boot_disk_gb = 64"),
        ),
        (
            lambda google: google.things.update({IMAGE: image(**{images.DRIVER_LABEL: "535-230-02"})}),
            Verdict.FAILED,
            ("535.230.02 is older than 580, which CUDA 13.2", "a driver from 580 on"),
        ),
        (
            lambda google: google.things.update({IMAGE: image()}),
            Verdict.WARNING,
            ("no label nvidia-driver",),
        ),
        (
            lambda google: google.things.pop(REPOSITORY),
            Verdict.FAILED,
            (
                "there is no repository us-central1-docker.pkg.dev/my-project/lowtide",
                "gcloud artifacts repositories create lowtide --repository-format=docker --location=us-central1",
            ),
        ),
        (
            lambda google: google.things.pop(f"{REPOSITORY}/packages/worker/tags/0.1.0"),
            Verdict.FAILED,
            ("has no worker:0.1.0", "image_tag"),
        ),
        (
            lambda google: google.things.pop(f"{REPOSITORY}/packages/redis/tags/7.4-alpine"),
            Verdict.FAILED,
            ("has no redis:7.4-alpine", "build and push them"),
        ),
        (
            lambda google: google.things.pop(SECRET),
            Verdict.FAILED,
            ("lowtide-redis-password does not exist", "gcloud secrets create lowtide-redis-password"),
        ),
        (
            lambda google: google.things.update({SECRET: {"state": "DESTROYED"}}),
            Verdict.FAILED,
            ("newest version that is DESTROYED", "gcloud secrets versions add lowtide-redis-password"),
        ),
        (
            lambda google: google.things.update(
                {
                    DESCRIPTORS: [
                        {"metricDescriptors": [{"type": SIGNAL, "metricKind": "CUMULATIVE", "valueType": "INT64"}]}
                    ]
                }
            ),
            Verdict.FAILED,
            (f"{SIGNAL} is there as CUMULATIVE of INT64", "delete it"),
        ),
        (
            lambda google: google.things.update(
                {"pubsub/v1/projects/my-project/topics/lowtide-requests": {"name": "lowtide-requests"}}
            ),
            Verdict.FAILED,
            (
                "projects/my-project/topics/lowtide-requests is there already",
                "import 'google_pubsub_topic.topic[\"lowtide-requests\"]' projects/my-project/topics/lowtide-requests",
            ),
        ),
        (
            lambda google: google.refused.add("secretmanager"),
            Verdict.FAILED,
            ("secretmanager: could not be looked at", "Permission denied"),
        ),
        (
            lambda google: google.refused.add("serviceusage"),
            Verdict.FAILED,
            ("my-project: serviceusage refuses: Permission denied", "LOWTIDE_PROJECT"),
        ),
    ],
)
def test_what_is_missing_is_told_of_with_what_to_do(
    google: GoogleStandIn, broken: Break, verdict: Verdict, words: tuple[str, ...]
) -> None:
    broken(google)
    told = said(findings(google), verdict)

    for word in words:
        assert word in told


def test_an_api_that_is_off_is_not_asked(google: GoogleStandIn) -> None:
    google.enabled -= {"compute", "secretmanager"}
    findings(google)

    assert not [one for one in google.asked if one.startswith(("compute", "secretmanager"))]


def test_spot_cpus_count_against_their_own_quota_where_it_was_granted(google: GoogleStandIn) -> None:
    google.things[REGION] = quotas({**QUOTAS, "PREEMPTIBLE_CPUS": 8, "CPUS": 1000})

    assert "PREEMPTIBLE_CPUS in us-central1 is 8: room for 2 workers of 10" in said(findings(google), Verdict.WARNING)


def test_attached_gpus_count_against_theirs(google: GoogleStandIn) -> None:
    google.things[REGION] = quotas({**QUOTAS, "PREEMPTIBLE_NVIDIA_T4_GPUS": 4})
    told = said(findings(google, worker_gpu={"type": "nvidia-tesla-t4", "count": 2}), Verdict.WARNING)

    assert "PREEMPTIBLE_NVIDIA_T4_GPUS in us-central1 is 4: room for 2 workers of 10" in told


def test_a_gpu_that_the_api_has_no_quota_of_is_to_be_looked_up(google: GoogleStandIn) -> None:
    told = said(findings(google, worker_gpu={"type": "nvidia-b200", "count": 1}), Verdict.WARNING)

    assert "PREEMPTIBLE_nvidia-b200 in us-central1 can't be read → look at it yourself: https://console" in told


def test_without_chosen_zones_those_that_have_the_machine_are_named(google: GoogleStandIn) -> None:
    told = said(findings(google, worker_zones=None), Verdict.WARNING)

    assert 'worker_zones = ["us-central1-a", "us-central1-b"]' in told


def test_what_terraform_has_made_is_no_news(google: GoogleStandIn) -> None:
    google.things["pubsub/v1/projects/my-project/topics/lowtide-requests"] = {"name": "lowtide-requests"}
    found = findings(google, made=frozenset({'google_pubsub_topic.topic["lowtide-requests"]'}))

    assert {one.verdict for one in found} == {Verdict.OK}


def test_the_discovery_documents_are_those_that_the_script_fetches() -> None:
    said = documents()

    assert said["origin"] == renew.ORIGIN
    assert {name for one in said["services"].values() for name in one["methods"]} == set().union(*renew.USED.values())


def test_quotas_have_the_names_that_the_api_has() -> None:
    names = Discovery().enum("compute", "Quota", "metric")
    assert {f"PREEMPTIBLE_{name}" for name in GPU_QUOTAS.values()} | QUOTAS.keys() | EVERYWHERE.keys() <= names


def check(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`lowtide deploy check` in a checkout, by a shell that has no terraform, no gcloud and none of our settings."""
    (folder / "deploy" / "terraform").mkdir(parents=True)
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith(("LOWTIDE_", "GOOGLE_", "CLOUDSDK_"))
    }
    return subprocess.run(
        [*LOWTIDE, "deploy", "check"],
        cwd=folder,
        # Without NO_GCE_CHECK the library looks for a metadata server.
        env={**ours, "PATH": "", "CLOUDSDK_CONFIG": str(folder), "NO_GCE_CHECK": "true", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_terraform_gcloud_and_credentials_there_is_a_sentence_for_each(tmp_path: Path) -> None:
    done = check(tmp_path, LOWTIDE_PROJECT="my-project")

    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "warn  gcloud: not on the PATH",
        "      → install it: https://cloud.google.com/sdk/docs/install",
        "FAIL  Terraform: terraform is not on the PATH. Machines, quotas and images are not looked at",
        "      → install it, version 1.9 or later: https://developer.hashicorp.com/terraform/install",
        "FAIL  Credentials: there are no application default credentials",
        "      → gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS=<a key file>",
    ]


@pytest.fixture
def refusing_url() -> Iterator[str]:
    """A place that gives nobody a token."""

    class Refusal(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(400)

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_credentials_that_are_no_longer_good_are_told_of(refusing_url: str, tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    account = {"type": "service_account", "client_email": "me@my-project.iam.gserviceaccount.com", "private_key": pem}
    file = tmp_path / "key.json"
    file.write_text(json.dumps({**account, "token_uri": refusing_url}))
    done = check(tmp_path, LOWTIDE_PROJECT="my-project", GOOGLE_APPLICATION_CREDENTIALS=str(file))

    assert (done.returncode, done.stderr) == (1, "")
    assert "FAIL  Credentials: the credentials are refused: " in done.stdout
    assert "→ gcloud auth application-default login\n" in done.stdout


def test_a_key_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    done = check(tmp_path, LOWTIDE_PROJECT="my-project", GOOGLE_APPLICATION_CREDENTIALS="/not/there.json")

    assert (
        "FAIL  Credentials: GOOGLE_APPLICATION_CREDENTIALS=/not/there.json: File /not/there.json was not" in done.stdout
    )
    assert "→ correct it, or unset it: gcloud auth application-default login" in done.stdout
