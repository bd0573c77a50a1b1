"""`lowtide autoscale`."""

import signal
import threading
import time

import click

from lowtide.autoscaling.export.exporter import EVERY_S, Exporter
from lowtide.autoscaling.export.monitoring import Monitoring
from lowtide.autoscaling.export.prometheus import serve
from lowtide.cli.options import examples
from lowtide.config import Process, load_settings
from lowtide.config.process.health import HealthServer
from lowtide.config.process.logs import configure_logging
from lowtide.tasks.redis.connect import connect

LOOK_S = 0.2


@click.command(
    epilog=examples(
        "LOWTIDE_PROJECT=my-project LOWTIDE_MODELS=resnet101 lowtide autoscale",
        "LOWTIDE_PROJECT=my-project LOWTIDE_METRICS_PORT=9090 lowtide autoscale",
    )
)
def command() -> None:
    """Write the fleet's figures to Cloud Monitoring every 15 s, for an instance group to be sized by.

    Needs LOWTIDE_PROJECT and LOWTIDE_REDIS_URL. Several may run: one of them writes. LOWTIDE_METRICS_PORT serves the
    same figures to Prometheus, LOWTIDE_HEALTH_PORT the liveness. Stops on SIGTERM or Ctrl-C.
    """
    settings = load_settings(Process.AUTOSCALE)
    configure_logging(settings)
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    monitoring = Monitoring(settings)
    exporter = Exporter(settings, connect(settings), monitoring)
    if settings.health_port:
        HealthServer(exporter.health, address=settings.health_address, port=settings.health_port).start()
    if settings.metrics_port:
        serve(settings, lambda: exporter.latest.samples)
    next_s = time.monotonic()
    while not stop.is_set():
        if time.monotonic() >= next_s:
            next_s = time.monotonic() + EVERY_S
            exporter.turn()
        # Asleep, not in `wait`: a signal's handler could not `set` an Event whose lock this thread holds.
        time.sleep(LOOK_S)
    exporter.close()
    monitoring.close()
