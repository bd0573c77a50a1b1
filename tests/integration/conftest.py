"""What tests of Redis share: each server of this machine."""

from collections.abc import Iterator

import pytest

from lowtide.local.redis import redis_servers
from tests.integration.bare_fleet import Server, server_of

SERVERS = redis_servers()


@pytest.fixture(scope="module", params=sorted(SERVERS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_of(SERVERS[request.param], tmp_path_factory.mktemp("redis")) as server:
        yield server
