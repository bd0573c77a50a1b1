"""`lowtide up`."""

import shlex
import signal
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

import click

from lowtide.cli.options import DURATION, examples
from lowtide.config import Settings, load_settings, pubsub_emulator
from lowtide.config.addresses import at
from lowtide.config.process.logs import configure_logging
from lowtide.config.process.preemption import Preemption
from lowtide.config.redact import redacted
from lowtide.local.group import Event
from lowtide.local.stack import Ports, Stack

WATCH_S = 0.2
FLEET_MAX = 2
"""Workers share this machine: two show that a fleet grows, more would only take cores from each other."""
PORTS = Ports(redis=6379, pubsub=8085, flower=5555)

JOINING = (
    "LOWTIDE_REDIS_URL",
    "LOWTIDE_PREFIX",
    "LOWTIDE_PROJECT",
    "LOWTIDE_TOPIC",
    "LOWTIDE_SUBSCRIPTION",
    "LOWTIDE_RESULTS_TOPIC",
    "LOWTIDE_DEAD_LETTER_TOPIC",
    "LOWTIDE_MODELS",
    "LOWTIDE_DEFAULT_MODEL",
    "LOWTIDE_MONITORING_HOST",
    "PUBSUB_EMULATOR_HOST",
)
"""What callers, publishers and `lowtide status` need to know of a running system, beside the fleet's policy."""
POLICY = "LOWTIDE_FLEET"
EXAMPLE = Path("examples/digits/images/0001.png")
"""In a checkout."""


@click.command(
    epilog=examples(
        "lowtide up",
        "LOWTIDE_MODELS=digits,mobilenet_v2 LOWTIDE_WEIGHTS=mobilenet_v2=random lowtide up --workers 2",
        "LOWTIDE_FLEET_MAX=3 LOWTIDE_FLEET_STABILIZATION_S=60 lowtide up --boot-delay 30s",
        "LOWTIDE_FLEET_MAX=3 lowtide up --preempt-every 2m --capacity 2",
    )
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    help="So many worker processes, all the time. Default: as many as the policy (LOWTIDE_FLEET_...) wants.",
)
@click.option(
    "--boot-delay",
    type=DURATION,
    default="0s",
    show_default=True,
    help="How long a worker boots that the policy wants, as a VM would.",
)
@click.option(
    "--preempt-every",
    type=DURATION,
    help="While any runs, take the one away so often that runs longest, as Compute Engine does with Spot VMs. "
    "Default: never.",
)
@click.option(
    "--capacity",
    type=click.IntRange(min=0),
    help="So many workers are to be had at once: a stock-out, if the policy wants more. Default: all that it wants.",
)
@click.option("--flower/--no-flower", default=True, show_default=True, help="Run Flower, to watch.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for logs and Redis' data. Default: a temporary one, removed at the end.",
)
def command(
    *,
    workers: int | None,
    boot_delay: float,
    preempt_every: float | None,
    capacity: int | None,
    flower: bool,
    data_dir: Path | None,
) -> None:
    """Run the whole system on this machine until Ctrl-C: Redis, Pub/Sub, a bridge, workers and Flower. Without a
    subscription (LOWTIDE_SUBSCRIPTION=) no bridge.

    Workers stand for VMs: they come when there is work, and go when there has been none for a while. The signal goes to
    a Cloud Monitoring of this machine, every 15 s, and the policy reads it there: LOWTIDE_FLEET_MAX workers at most, 2
    unless you say else. Each change of the fleet is printed with its reason.

    Serves the models of LOWTIDE_MODELS (digits, unless you say else). LOWTIDE_REDIS_URL, PUBSUB_EMULATOR_HOST and
    LOWTIDE_MONITORING_HOST, when set, are used instead of own servers. LOWTIDE_HEALTH_PORT is for one process alone,
    and not used here.
    """
    if workers is not None and (boot_delay or preempt_every or capacity is not None):
        raise click.UsageError(
            "--boot-delay, --preempt-every and --capacity are for workers that the policy wants: leave out --workers"
        )
    settings = on_one_machine(load_settings())
    configure_logging(settings, default="WARNING")
    stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stop.set())
    Preemption(settings).start()
    with tempfile.TemporaryDirectory(prefix="lowtide-") as temporary:
        folder = data_dir or Path(temporary)
        stack = Stack(
            settings,
            folder=folder,
            workers=workers,
            boot_s=boot_delay,
            preempt_every_s=preempt_every or 0.0,
            capacity=capacity,
            on_event=lambda event: click.echo(line(event)),
            flower=flower,
            ports=PORTS,
            pubsub_host=pubsub_emulator(),
        )
        with stack:
            click.echo(f"Starting; logs are in {folder}", err=True)
            stack.wait_ready(stop=stop)
            if not stop.is_set():
                click.echo(welcome(stack, flower=flower))
            # Asleep, not in `wait`: a signal's handler could not `set` an Event whose lock this thread holds.
            while not stop.is_set():
                time.sleep(WATCH_S)
            click.echo("Stopping", err=True)


def line(event: Event) -> str:
    """What became of the fleet, and why."""
    clock = datetime.fromtimestamp(event.at).astimezone().strftime("%H:%M:%S")
    return f"{clock}  fleet: {event.running} running, {event.booting} booting, wanted {event.reason}"


def welcome(stack: Stack, *, flower: bool) -> str:
    """What a person needs to go on: the addresses, and how to send a first request through each door."""
    settings = stack.settings
    model = settings.model_names[0]
    exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in _joining(stack).items())
    also = "" if "LOWTIDE_REDIS_URL=" in exports else ", with LOWTIDE_REDIS_URL set as in this one"
    watch = f"http://{at(settings.flower_address, settings.flower_port)}" if flower else "off (--no-flower)"
    workers = (
        "" if stack.group is None else "\nWorkers come when there is work: the first answer takes as long as a start."
    )
    picture = EXAMPLE if EXAMPLE.exists() else Path("my-picture.png")
    publish = f"""
Publish, from another terminal in this folder{also}:

  export {exports}
  lowtide publish --model {model} {picture}
  lowtide results --max 1

Call from Python, with the same variables set:
"""
    if not settings.subscription:
        publish = f"""
No bridge runs, as LOWTIDE_SUBSCRIPTION is empty. Call from Python, with these variables set{also}:

  export {exports}
"""
    return f"""
Lowtide is up, serving {", ".join(settings.model_names)}. Ctrl-C stops everything.{workers}

  Pub/Sub   {stack.pubsub_host}   project {settings.project}, topic {settings.topic}
  Redis     {redacted(settings.redis_url)}
  Flower    {watch}
{publish}
  from lowtide.tasks import infer
  print(infer.delay({{"model": "{model}", "uri": "{picture.absolute().as_uri()}"}}).get())

See what waits and who works: lowtide status --watch
"""


def _joining(stack: Stack) -> dict[str, str]:
    names = [*JOINING, *(name for name in stack.environment if name.startswith(POLICY))]
    known = {name: stack.environment[name] for name in names if name in stack.environment}
    # A password is not for the screen: who has set it knows it.
    return {name: value for name, value in known.items() if redacted(value) == value}


def on_one_machine(settings: Settings) -> Settings:
    """The settings, and what fits one machine where nothing was said: the current folder is readable, for a person's
    files are there.
    """
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    return load_settings(**{"file_roots": (str(Path.cwd()),), "fleet_max": max(FLEET_MAX, settings.fleet_min), **given})
