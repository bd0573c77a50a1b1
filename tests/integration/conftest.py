"""What tests of Redis share: each server of this machine, and a fleet on it."""

from collections.abc import Iterator

import pytest

from lowtide.local.redis import redis_servers
from tests.integration.bare_fleet import Fleet, Server, fleet_on

SERVERS = redis_servers()


@pytest.fixture(scope="module", params=sorted(SERVERS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("redis"), binary=SERVERS[request.param]) as server:
        yield server


@pytest.fixture
def fleet(server: Server) -> Iterator[Fleet]:
    with fleet_on(server) as fleet:
        yield fleet
