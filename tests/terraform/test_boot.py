"""What the VMs do when they boot: their cloud-config and its units."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from redis import AuthenticationError, Redis
from redis.backoff import ConstantBackoff, NoBackoff
from redis.retry import Retry

from lowtide.bridge.credit import CONTENT_SHARE
from lowtide.cli.main import COMMANDS
from lowtide.config import load_settings
from lowtide.local.redis import find_redis
from tests.ports import steady_port
from tests.terraform.cli import DEPLOY, PLACE, Terraform
from tests.terraform.machine import KINDS, UNITS, Machine

SETTINGS = load_settings(project="my-project", fleet="blue: '{x}' %d $HOME", models="digits", health_port=9999)
CONTROL = {"redis", "bridge", "autoscale", "flower"}
E2_SMALL_MB = 2048
SYSTEM_MB = 400
"""For Container-Optimized OS, its agents and docker."""


@pytest.fixture(scope="module")
def machines(terraform: Terraform) -> dict[str, Machine]:
    """The control VM and a worker."""
    terraform.given(settings=SETTINGS)
    plan = terraform.planned()
    return {name: Machine(plan, name) for name in KINDS}


def test_each_machine_has_the_units_of_its_services_and_starts_them(machines: dict[str, Machine]) -> None:
    for name, services, others in (("control", CONTROL, ["heal", "prune"]), ("worker", {"worker"}, [])):
        assert machines[name].units.keys() == {*services, *others}
        started = re.findall(r"start --no-block lowtide-(\S+)", "\n".join(machines[name].commands))
        assert sorted(started) == sorted([f"{one}.service" for one in services] + [f"{one}.timer" for one in others])


@pytest.mark.parametrize("service", sorted({*CONTROL, "worker"} - {"redis"}))
def test_a_container_runs_a_command_that_there_is_with_the_settings(machines: dict[str, Machine], service: str) -> None:
    machine = machines["worker" if service == "worker" else "control"]
    container = machine.docker_run(service)

    assert container.command == ["lowtide", service]
    assert service in COMMANDS
    # The image is the stage of the Dockerfile that is made for it.
    stage = container.image.removeprefix(f"{PLACE['image_repository']}/").removesuffix(f":{PLACE['image_tag']}")
    dockerfile = (DEPLOY.parent / "Dockerfile").read_text().partition(f" AS {stage}\n")[2].partition("\nFROM ")[0]
    assert f'CMD ["lowtide", "{service}"' in dockerfile
    assert f"--name=lowtide-{service}" in container.options
    assert {"--env-file=/var/lib/lowtide/settings.env", "--env-file=/run/lowtide/redis.env"} <= set(container.options)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze on the PATH")
def test_systemd_takes_the_units(machines: dict[str, Machine], tmp_path: Path) -> None:
    paths = []
    for name, text in {**machines["control"].files, **machines["worker"].files}.items():
        if Path(name).parent == UNITS:
            path = tmp_path / Path(name).name
            # What is on a VM need not be here.
            path.write_text(text.replace("/usr/bin/docker", "/bin/true").replace("Requires=docker.service\n", ""))
            paths.append(path)
    assert len(paths) == len(CONTROL) + 5
    said = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False)

    ours = [line for line in said.stderr.splitlines() if "lowtide-" in line]
    assert (ours, said.returncode) == ([], 0)


def test_the_control_vm_deletes_images_that_nothing_runs_of_when_they_are_a_month_old(
    machines: dict[str, Machine],
) -> None:
    prune = "ExecStart=/usr/bin/docker image prune --all --force --filter until=720h\n"

    assert prune in machines["control"].units["prune"]
    assert "prune" not in machines["worker"].units  # whose disk goes with it


def test_a_setting_arrives_as_it_is_and_what_is_of_this_machine_does_not(machines: dict[str, Machine]) -> None:
    assert machines["worker"].settings == {
        "LOWTIDE_FLEET": SETTINGS.fleet,
        "LOWTIDE_MODELS": "digits",
        "LOWTIDE_PROJECT": "my-project",
    }


def test_a_worker_finds_the_weights_that_its_disk_image_brings(machines: dict[str, Machine]) -> None:
    volume = "--volume=lowtide-cache:/home/lowtide/.cache"
    stage = (DEPLOY.parent / "Dockerfile").read_text().partition(" AS worker\n")[2]

    assert volume in machines["worker"].docker_run("worker").options
    assert volume.replace("=", " ") in (DEPLOY / "image" / "provision.sh").read_text()
    # Docker gives a new volume to the owner of the folder that it is mounted over.
    assert "USER lowtide\n" in stage.partition("RUN mkdir .cache\n")[0]


def test_a_worker_has_the_grace_period_before_it_is_killed(machines: dict[str, Machine]) -> None:
    unit = machines["worker"].units["worker"]

    assert "docker stop -t 25 lowtide-worker" in unit  # LOWTIDE_GRACE_S and 5 s
    assert "TimeoutStopSec=30" in unit


def test_systemd_gives_a_start_up_when_the_group_would_make_the_vm_anew(
    machines: dict[str, Machine], terraform: Terraform
) -> None:
    healing = terraform.planned().only("google_compute_region_instance_group_manager")["auto_healing_policies"]

    assert f"TimeoutStartSec={healing[0]['initial_delay_sec']}\n" in machines["worker"].units["worker"]


def test_what_may_run_on_the_control_vm_fits_into_its_memory_and_redis_is_the_last_to_be_killed(
    machines: dict[str, Machine],
) -> None:
    control = machines["control"]
    limits = {}
    for service in CONTROL - {"redis"}:
        options = control.docker_run(service).options
        [limit] = [option for option in options if option.startswith("--memory=")]
        assert f"--memory-swap={limit.removeprefix('--memory=')}" in options  # else as much again, of swap
        limits[service] = int(limit.removeprefix("--memory=").removesuffix("m"))
    redis = control.docker_run("redis")
    redis_mb = int(redis.command[redis.command.index("--maxmemory") + 1].removesuffix("mb"))

    assert sum(limits.values()) + 2 * redis_mb + SYSTEM_MB == 1040 + 2.75 * redis_mb <= E2_SMALL_MB
    # What it was seen to take: its own, and all content that it may have in Redis.
    assert limits["bridge"] >= 93 + 1.1 * redis_mb * CONTENT_SHARE
    assert "--oom-score-adj=-900" in redis.options
    assert not any(option.startswith("--memory") for option in redis.options)


@pytest.mark.parametrize("service", ["bridge", "autoscale", "flower"])
def test_a_service_that_says_that_it_is_ill_or_does_not_answer_is_unhealthy_and_docker_says_why(
    machines: dict[str, Machine], service: str
) -> None:
    options = machines["control"].docker_run(service).options
    [asks] = [option.removeprefix("--health-cmd=") for option in options if option.startswith("--health-cmd=")]
    said = Answering()
    told = dict(option.removeprefix("--env=").split("=", 1) for option in options if option.startswith("--env="))
    [(port, path)] = re.findall(r"'127\.0\.0\.1', (\d+), .* c\.request\('GET', '(/\w+)'\)", asks)
    asks = asks.replace(f"'127.0.0.1', {port}", f"'127.0.0.1', {said.server_port}")

    with said.serving():
        well = health(asks)
        said.status = 503
        ill = health(asks)
    gone = health(asks)

    assert port == told.get("LOWTIDE_HEALTH_PORT", "5555")
    assert path == ("/healthcheck" if service == "flower" else "/healthz")
    assert (well.returncode, well.stderr) == (0, "")
    assert (ill.returncode, ill.stderr) == (1, "why\n")
    assert gone.returncode == 1


class Answering(ThreadingHTTPServer):
    """A service that answers its `status`, and why."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), BaseHTTPRequestHandler)
        self.status = 200
        answering = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(answering.status)
                self.end_headers()
                self.wfile.write(b"why")

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads it."""

        self.RequestHandlerClass = Answer

    @contextmanager
    def serving(self) -> Iterator[None]:
        thread = threading.Thread(target=self.serve_forever)
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


def health(command: str) -> subprocess.CompletedProcess[str]:
    """As docker asks: by the shell of the container, here with this Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-c", command], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )


def test_ssh_forwards_the_ports_of_flower_and_redis_and_no_others(
    machines: dict[str, Machine], terraform: Terraform, tmp_path: Path
) -> None:
    config = tmp_path / "sshd_config"
    config.write_text("# as Container-Optimized OS has it\nPermitRootLogin no\nAllowTcpForwarding no\n")
    [edit] = [command for command in machines["control"].commands if "sshd_config" in command]
    subprocess.run(["sh", "-c", edit.replace("/etc/ssh/sshd_config", str(config))], check=True)
    outputs = terraform.planned().outputs

    lines = config.read_text().splitlines()
    # The first that names a keyword counts.
    assert lines[:2] == ["AllowTcpForwarding local", f"PermitOpen localhost:5555 {outputs['redis_address']}"]
    assert "-NL 5555:localhost:5555" in outputs["flower"]
    assert f"-NL 6379:{outputs['redis_address']}" in outputs["redis_tunnel"]
    assert "access latest --secret=lowtide-redis-password --project=my-project" in outputs["redis_password"]
    assert "systemctl try-reload-or-restart sshd" in machines["control"].commands
    assert not any("ssh" in command for command in machines["worker"].commands)


def test_redis_is_of_our_own_registry_unless_somebody_names_it_by_its_digest(
    machines: dict[str, Machine], terraform: Terraform
) -> None:
    digest = f"mirror.gcr.io/library/redis@sha256:{'0a' * 32}"
    terraform.given(settings=SETTINGS, redis_image=digest)
    named = Machine(terraform.planned(), "control")
    terraform.given(settings=SETTINGS)

    assert machines["control"].docker_run("redis").image == f"{PLACE['image_repository']}/redis:7.4-alpine"
    assert named.docker_run("redis").image == digest


def test_redis_writes_to_its_disk_and_nobody_reads_its_password_among_the_arguments(
    machines: dict[str, Machine],
) -> None:
    unit = machines["control"].units["redis"]

    assert "ExecStartPre=/bin/sh /var/lib/lowtide/redis.sh /dev/disk/by-id/google-redis /mnt/disks/redis\n" in unit
    assert "--volume=/mnt/disks/redis:/data" in unit
    assert "requirepass" not in unit


@pytest.mark.usefixtures("redis_server")
def test_redis_starts_with_its_arguments_asks_for_the_password_and_keeps_what_it_is_told(
    machines: dict[str, Machine], tmp_path: Path
) -> None:
    command = machines["control"].docker_run("redis").command
    (tmp_path / "redis.conf").write_text("requirepass hunter2\n")
    here = {"/redis.conf": f"{tmp_path}/redis.conf", "/data": str(tmp_path)}
    program, *arguments = [here.get(word, word) for word in command]
    port = steady_port()
    with subprocess.Popen([find_redis(), *arguments, "--port", str(port)], stdout=subprocess.DEVNULL) as server:
        try:
            with Redis(port=port, password="hunter2", retry=Retry(ConstantBackoff(0.05), 100)) as client:
                client.set("a", "b")
                kept = client.config_get("maxmemory-policy", "appendonly", "maxmemory", "dir")
            with Redis(port=port, retry=Retry(NoBackoff(), 0)) as stranger, pytest.raises(AuthenticationError):
                stranger.get("a")
        finally:
            server.terminate()

    assert program == "redis-server"
    assert kept == {
        "maxmemory-policy": "noeviction",
        "appendonly": "yes",
        "maxmemory": str(256 * 1024**2),
        "dir": str(tmp_path),
    }
    assert list((tmp_path / "appendonlydir").iterdir())
