"""`lowtide autoscale` as production runs it, on a Redis and a Cloud Monitoring of this machine."""

import json
import os
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest
from redis import Redis

from lowtide.autoscaling.export.monitoring import Monitoring
from lowtide.config import load_settings
from lowtide.local.monitoring.server import MonitoringServer
from tests.fleet import LOWTIDE, READY_S
from tests.ports import steady_port
from tests.waiting import until


def get(port: int, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read(), "utf-8")
    except OSError:
        return ""


@pytest.mark.timeout(5 * READY_S)
def test_the_signal_is_written_served_to_prometheus_and_healthy_and_a_stop_is_clean(
    redis_url: str, tmp_path: Path
) -> None:
    with Redis.from_url(redis_url) as redis, MonitoringServer() as server:
        redis.lpush("lowtide.digits", json.dumps({"headers": {"lowtide-n": 400}, "properties": {}}))
        metrics, health = steady_port(), steady_port()
        settings = load_settings(redis_url=redis_url, project="p", monitoring_host=server.address)
        env = {
            **os.environ,
            **settings.environment(),
            "LOWTIDE_METRICS_PORT": str(metrics),
            "LOWTIDE_HEALTH_PORT": str(health),
        }
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen([*LOWTIDE, "autoscale"], env=env, stdout=log, stderr=log)
        try:
            until(
                lambda: 'lowtide_gpu_seconds_outstanding{fleet="default"} 2.0' in get(metrics, "/metrics"),
                what="the figure at the Prometheus endpoint",
            )
            until(
                lambda: json.loads(get(health, "/healthz") or "{}").get("writes"),
                what="a first write",
            )
            for port in (metrics, health):  # loopback is more than one address, and all but the first are "beyond"
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.2", port), timeout=5)
            client = Monitoring(settings)
            until(lambda: client.newest_at(), what="a point")
            client.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(READY_S) == 0
        finally:
            process.kill()
        assert redis.get("lt2:exporter") is None, "another may write at once"
    assert "Traceback" not in (tmp_path / "log").read_text()
