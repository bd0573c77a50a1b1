"""Services that integration tests share. A server runs once per session on a free port, and ends with it.

`LOWTIDE_TEST_REQUIRE=redis,emulator,chromium,terraform` names services whose absence is an error; otherwise absence is
a skip. A Docker engine is used only where it is named: `docker`.
Tests keep apart through fresh project names (`project`) and an emptied Redis (`redis_url`), not through restarts.
"""

import ipaddress
import os
import ssl
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from playwright.sync_api import Browser
from redis import Redis
from xdist.scheduler import LoadFileScheduling

from lowtide.config import Settings
from lowtide.local.redis import EmbeddedRedis, RedisMissing, find_redis
from lowtide.tasks.redis.connect import connect
from tests import services
from tests.services import BrowserMissing, EmulatorMissing, PubsubEndpoint, TerraformMissing

# The same examples each time: a red test is red for everybody. `pytest --hypothesis-profile=deep` looks further.
hypothesis.settings.register_profile("default", derandomize=True, database=None, deadline=None)
hypothesis.settings.register_profile("deep", max_examples=20_000, deadline=None, print_blob=True)
# `make fuzz`: what tests/fuzz does in the suite for seconds, for minutes.
hypothesis.settings.register_profile("fuzz", max_examples=3_000, deadline=None, print_blob=True, database=None)
hypothesis.settings.load_profile("default")

SYSTEMS = ("tests/drills/", "tests/e2e/")
"""Their tests start whole systems, of five processes and more each."""
PUBSUB_SERVERS = ("emulator", "ours")
CERTIFIED = ("localhost", "good.org", "*.wide.org")


class SystemsOneByOne(LoadFileScheduling):
    """A file's tests run in one process, beside those of other files. Whole systems run one after the other: two that
    start at once on two cores make each other late.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "systems" if nodeid.startswith(SYSTEMS) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SystemsOneByOne:
    return SystemsOneByOne(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins; the others keep their order, in which the short ones fill the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(SYSTEMS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate that is its own authority, and its key. Names: `CERTIFIED`."""

    path: Path
    key_path: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path, self.key_path)
        return context


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> Certificate:
    """For TLS servers of tests: clients are told to trust `path`."""
    folder = tmp_path_factory.mktemp("certificate")
    made = Certificate(path=folder / "cert.pem", key_path=folder / "key.pem")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests of Lowtide")])
    names = [*map(x509.DNSName, CERTIFIED), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    made.path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    made.key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory) -> Iterator[EmbeddedRedis]:
    """A Redis of this session's own: `.url`, `.port`."""
    try:
        find_redis()
    except RedisMissing as error:
        _absent("redis", str(error))
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server) -> str:
    """The session's Redis, emptied for this test."""
    with Redis.from_url(redis_server.url) as client:
        client.config_set("maxmemory", 0)
        client.flushall()
    return redis_server.url


@pytest.fixture
def redis(redis_url) -> Iterator[Redis]:
    """A client of it."""
    with connect(Settings(redis_url=redis_url)) as client:
        yield client


@pytest.fixture(scope="session")
def emulator_here() -> None:
    """Google's emulator can run on this machine."""
    try:
        services.emulator_jar()
    except EmulatorMissing as error:
        _absent("emulator", str(error))


@pytest.fixture(scope="session")
def google_emulator(emulator_here, tmp_path_factory) -> Iterator[PubsubEndpoint]:
    """Google's own Pub/Sub emulator."""
    with services.google_emulator(tmp_path_factory.mktemp("emulator") / "log") as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def local_pubsub(tmp_path_factory) -> Iterator[PubsubEndpoint]:
    """Our own Pub/Sub server, as a process."""
    with services.local_pubsub(tmp_path_factory.mktemp("pubsub") / "log") as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def terraform_here() -> None:
    """terraform can run on this machine."""
    try:
        services.terraform()
    except TerraformMissing as error:
        _absent("terraform", str(error))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, without a window. Playwright keeps an event loop running in this thread for as long as it lives, and
    nothing else can start one meanwhile: no longer than a module.
    """
    try:
        with services.chromium() as browser:
            yield browser
    except BrowserMissing as error:
        _absent("chromium", str(error))


@pytest.fixture(params=PUBSUB_SERVERS)
def pubsub(request, monkeypatch) -> PubsubEndpoint:
    """Google's emulator, then ours: a test that uses this runs against each, through PUBSUB_EMULATOR_HOST."""
    fixture = {"emulator": "google_emulator", "ours": "local_pubsub"}[request.param]
    endpoint = request.getfixturevalue(fixture)
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", endpoint.host)
    return endpoint


@pytest.fixture
def pubsub_host(pubsub) -> str:
    """The `host:port` of `pubsub`."""
    return pubsub.host


@pytest.fixture
def project() -> str:
    """A Google Cloud project id that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"


def _absent(service: str, reason: str) -> None:
    if service in os.environ.get("LOWTIDE_TEST_REQUIRE", "").split(","):
        pytest.fail(f"LOWTIDE_TEST_REQUIRE names {service}, but {reason}")
    pytest.skip(reason)
