from collections.abc import Iterator
from typing import Any

import pytest

from lowtide.local.metadata import MetadataServer
from lowtide.local.redis import EmbeddedRedis
from tests import services
from tests.integration.outages.fleet import OutageFleet, PubsubServer, outage_fleet
from tests.ports import steady_port


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """One that may be broken."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis"), port=steady_port()) as server:
        yield server


@pytest.fixture(scope="module")
def pubsub_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PubsubServer]:
    """One that may be broken."""
    server = PubsubServer(services.local_pubsub, tmp_path_factory.mktemp("pubsub"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def metadata() -> Iterator[MetadataServer]:
    with MetadataServer() as server:
        yield server


@pytest.fixture(scope="module")
def fleet(
    redis: EmbeddedRedis, pubsub_server: PubsubServer, metadata: MetadataServer, tmp_path_factory: Any
) -> Iterator[OutageFleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with outage_fleet(folder, redis, pubsub_server.host, "test-outages", metadata_url=metadata.url) as running:
        yield running
