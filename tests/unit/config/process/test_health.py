import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from lowtide.config import SettingsError
from lowtide.config.process.health import Health, HealthServer, Progress
from tests.clock import Clock

ANSWER = {"health": Health(ok=True)}


@pytest.fixture
def server() -> Iterator[HealthServer]:
    server = HealthServer(lambda: ANSWER["health"], address="127.0.0.1", port=0)
    server.start()
    yield server
    server.stop()
    server.stop()


def ask(server: HealthServer, path: str = "/healthz") -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_healthy_process_answers_200_with_its_details(server: HealthServer) -> None:
    ANSWER["health"] = Health(ok=True, details={"in_process": 3})
    assert ask(server) == (200, {"status": "ok", "in_process": 3})


def test_what_is_wrong_while_the_rest_goes_on_is_said_with_200(server: HealthServer) -> None:
    ANSWER["health"] = Health(ok=True, reason="one of two is gone")
    assert ask(server) == (200, {"status": "ok", "reason": "one of two is gone"})


def test_a_stuck_process_answers_503_with_the_reason(server: HealthServer) -> None:
    ANSWER["health"] = Health(ok=False, reason="no progress for 130 s", details={"in_process": 3})
    assert ask(server) == (503, {"status": "stuck", "reason": "no progress for 130 s", "in_process": 3})


def test_another_path_is_not_found(server: HealthServer) -> None:
    assert ask(server, "/")[0] == 404


def test_a_port_that_is_taken_is_named(server: HealthServer) -> None:
    with pytest.raises(SettingsError, match=f"LOWTIDE_HEALTH_PORT: can't listen on 127.0.0.1:{server.port}: .*in use"):
        HealthServer(lambda: ANSWER["health"], address="127.0.0.1", port=server.port)


def test_a_server_that_never_started_stops() -> None:
    HealthServer(lambda: ANSWER["health"], address="127.0.0.1", port=0).stop()


def test_work_without_progress_is_stuck_only_after_the_time_allowed() -> None:
    progress = Progress(stuck_after_s=10.0, clock=Clock(100.0))
    assert not progress.stuck(110.0, True)
    assert progress.stuck(110.1, True)


def test_progress_starts_the_time_again() -> None:
    clock = Clock(100.0)
    progress = Progress(stuck_after_s=10.0, clock=clock)
    clock.now_s = 105.0
    progress.moved()
    assert not progress.stuck(115.0, True)
    assert progress.moved_s == 105.0


def test_a_long_time_without_work_is_not_held_against_the_work_that_then_comes() -> None:
    progress = Progress(stuck_after_s=10.0, clock=Clock(100.0))
    assert not progress.stuck(1000.0, False)
    assert not progress.stuck(1005.0, True)
    assert progress.stuck(1011.0, True)
