"""A burst before an empty fleet: how it grows, drains and is gone again, as lines and as a picture.

`python -m benchmarks.burst` starts the whole system on this machine, as `lowtide up` does, with a model
that sleeps 10 ms for each request, publishes, and looks on until no worker is left. `--preempt` takes half of the
workers away on the way, as Spot VMs are. Exit code 1 when a request has no result.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from google.cloud import pubsub_v1

from lowtide.autoscaling.export.monitoring import Monitoring
from lowtide.autoscaling.signal.last_value import SourceUnreadable
from lowtide.autoscaling.signal.snapshot import Camera
from lowtide.config import load_settings
from lowtide.local.group import Event
from lowtide.local.stack import Stack
from lowtide.tasks.redis.connect import connect

LOOK_S = 0.5
PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What was seen, so many seconds after the burst. `waiting`: requests without a result."""

    at_s: float
    waiting: int
    running: int
    booting: int
    gpu_seconds: float


class Burst:
    """The requests and their results, of which it keeps the ids."""

    def __init__(self, project: str) -> None:
        self._publisher, self._subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
        self._topic = self._publisher.topic_path(project, "lowtide-requests")
        self._mine = self._subscriber.subscription_path(project, "burst")
        results = self._publisher.topic_path(project, "lowtide-results")
        self._subscriber.create_subscription(name=self._mine, topic=results)
        self.missing: set[str] = set()

    def publish(self, requests: int) -> None:
        """All at once."""
        futures = [self._publisher.publish(self._topic, b"x", model="sleeping") for _ in range(requests)]
        self.missing = {future.result(60) for future in futures}
        self._subscriber.subscribe(self._mine, callback=self._answered)

    def _answered(self, message: pubsub_v1.subscriber.message.Message) -> None:
        self.missing.discard(message.attributes["message_id"])
        message.ack()

    def close(self) -> None:
        """Let the connections go."""
        self._publisher.stop()
        self._subscriber.close()


def watch(stack: Stack, burst: Burst, *, preempt: bool) -> list[Sample]:
    """Until everything is answered and no worker is left, or patience is over."""
    camera, monitoring = Camera(connect(stack.settings), stack.settings), Monitoring(stack.settings)
    group, samples, began_s = stack.group, list[Sample](), time.monotonic()
    assert group is not None
    while time.monotonic() - began_s < PATIENCE_S:
        snapshot = camera.take()
        try:
            undelivered = monitoring.undelivered().messages
        except SourceUnreadable:
            undelivered = None
        work = snapshot.work(undelivered=undelivered, worker_s=stack.settings.fleet_work_s)
        vms = group.vms
        booting = sum(vm.is_booting for vm in vms)
        samples.append(
            Sample(
                at_s=time.monotonic() - began_s,
                waiting=len(burst.missing),
                running=len(vms) - booting,
                booting=booting,
                gpu_seconds=work.gpu_seconds,
            )
        )
        if preempt and snapshot.workers and len(burst.missing) < samples[0].waiting / 2:
            preempt = False
            for vm in vms[: (len(vms) + 1) // 2]:
                click.echo(f"{samples[-1].at_s:6.1f} s  {vm.name} is preempted")
                vm.preempt()
        if not burst.missing and not vms:
            break
        time.sleep(LOOK_S)
    monitoring.close()
    return samples


def plot(samples: Sequence[Sample], path: Path) -> None:
    """Requests without a result above, VMs below, over seconds."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    times = [sample.at_s for sample in samples]
    figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(8, 4.5))
    above.plot(times, [sample.waiting for sample in samples], label="requests without a result")
    above.plot(times, [100 * sample.gpu_seconds for sample in samples], label="work outstanding, 10 ms", linestyle="--")
    above.legend()
    below.stackplot(
        times,
        [sample.running for sample in samples],
        [sample.booting for sample in samples],
        labels=("running", "booting"),
        step="post",
    )
    below.legend()
    below.set_xlabel("seconds after the burst")
    below.set_ylabel("VMs")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


@click.command()
@click.option("--requests", default=3000, show_default=True, help="How many are published at once.")
@click.option("--workers", default=4, show_default=True, help="Most VMs of the fleet.")
@click.option("--boot", "boot_s", default=5.0, show_default=True, help="How long a VM boots, seconds.")
@click.option("--preempt", is_flag=True, help="Take half of the workers away on the way.")
@click.option("--plot", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture: .png, .svg.")
def main(requests: int, workers: int, boot_s: float, preempt: bool, picture: Path | None) -> None:
    """Publish a burst before an empty fleet and look on until it is empty again."""
    began_s = time.time()

    def tell(event: Event) -> None:
        click.echo(
            f"{event.at - began_s:6.1f} s  {event.running} running, {event.booting} booting, wanted {event.reason}"
        )

    settings = load_settings(
        models=("sleeping=benchmarks.sleeping:Sleeping",),
        fleet_max=workers,
        fleet_work_s=5.0,
        fleet_stabilization_s=20,
    )
    with tempfile.TemporaryDirectory(prefix="lowtide-burst-") as folder:
        stack = Stack(settings, folder=Path(folder), workers=None, boot_s=boot_s, on_event=tell)
        with stack:
            stack.wait_ready()
            os.environ["PUBSUB_EMULATOR_HOST"] = stack.pubsub_host
            burst = Burst(str(stack.settings.project))
            began_s = time.time()
            burst.publish(requests)
            click.echo(f"{time.time() - began_s:6.1f} s  {requests} requests are published")
            samples = watch(stack, burst, preempt=preempt)
            burst.close()
    done_s = next((sample.at_s for sample in samples if not sample.waiting), None)
    click.echo(
        f"{requests - len(burst.missing)} of {requests} have a result"
        + (f", the last after {done_s:.0f} s" if done_s else "")
        + f"; the fleet is empty after {samples[-1].at_s:.0f} s"
    )
    if picture:
        plot(samples, picture)
    sys.exit(1 if burst.missing else 0)


if __name__ == "__main__":
    main()
