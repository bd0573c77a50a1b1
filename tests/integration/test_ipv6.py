"""Addresses of IPv6, wherever a setting takes an address."""

import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import RedisError

from lowtide.autoscaling.export.monitoring import Monitoring
from lowtide.autoscaling.export.prometheus import serve
from lowtide.bridge.pubsub.create import check_exists, create_missing
from lowtide.config import load_settings
from lowtide.config.process.health import Health, HealthServer
from lowtide.local.cloud import CloudServer
from lowtide.local.redis import find_redis
from lowtide.tasks.app import App, celery_config
from lowtide.tasks.redis.connect import connect


def _missing() -> bool:
    try:
        free_port()
    except OSError:
        return True
    return False


def free_port() -> int:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
        return int(probe.getsockname()[1])


pytestmark = pytest.mark.skipif(_missing(), reason="this machine has no ::1")


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """Of a Redis that listens on ::1 alone."""
    port = free_port()
    command = [find_redis(), "--port", str(port), "--bind", "::1", "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"redis://[::1]:{port}/2"
    until_s = time.monotonic() + 20
    while True:
        try:
            connect(load_settings(redis_url=url)).ping()
            break
        except RedisError:
            assert time.monotonic() < until_s
            time.sleep(0.02)
    yield url
    process.terminate()
    process.wait()


def test_redis_is_reached_by_our_clients_and_by_celery(redis_url: str) -> None:
    settings = load_settings(redis_url=redis_url)
    app = App("x", set_as_current=False)
    app.conf.update({**celery_config(settings), "task_routes": ()})
    app.send_task("any", queue="any", retry=False)

    assert connect(settings).llen("any") == 1
    assert app.backend.client.ping()
    app.close()


def test_pubsub_and_monitoring_are_served_and_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    with CloudServer(host="::1") as server:
        assert server.address.startswith("[::1]:")
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
        settings = load_settings(project="p", monitoring_host=server.address)
        create_missing(settings)
        check_exists(settings)
        monitoring = Monitoring(settings)
        assert monitoring.newest_at() is None
        monitoring.close()


def test_liveness_and_figures_are_served() -> None:
    health = HealthServer(lambda: Health(ok=True), address="::1", port=0)
    health.start()
    port = free_port()
    figures = serve(load_settings(metrics_address="::1", metrics_port=port), lambda: ())
    for url in (f"http://[::1]:{health.port}/healthz", f"http://[::1]:{port}/metrics"):
        with urllib.request.urlopen(url, timeout=5) as answer:
            assert answer.status == 200
    health.stop()
    figures.shutdown()
    figures.server_close()
