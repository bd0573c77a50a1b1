"""What the VMs do when they boot: their cloud-config, its units, and the scripts that these run."""

import os
import re
import shutil
import ssl
import stat
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
from lowtide.config.redis_url import RedisAddress
from lowtide.local.redis import find_redis
from tests.ports import steady_port
from tests.terraform.cli import DEPLOY, PLACE, Terraform
from tests.terraform.machine import KINDS, UNITS, Machine

SCRIPTS = DEPLOY / "terraform" / "templates"
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
    for name, services, others in (("control", CONTROL, ["heal"]), ("worker", {"worker"}, [])):
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
    assert len(paths) == len(CONTROL) + 3
    said = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False)

    ours = [line for line in said.stderr.splitlines() if "lowtide-" in line]
    assert (ours, said.returncode) == ([], 0)


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


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A PATH of its own, with stand-ins that write down how they were called."""
    for name in ("sh", "sed", "base64", "mkdir", "mv", "chmod", "cat", "printf", "echo", "tail"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    return tmp_path


def stand_in(machine: Path, name: str, body: str) -> None:
    path = machine / name
    path.write_text(f'#!/bin/sh\necho "{name} $*" >> {machine}/calls\n{body}\n')
    path.chmod(0o755)


def run(machine: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(machine), "LOWTIDE_RUN": str(machine / "run")}
    command = [machine / "sh", SCRIPTS / script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def calls(machine: Path) -> list[str]:
    return (machine / "calls").read_text().splitlines()


SECRET = "projects/p/secrets/s"
IMAGE = "us-central1-docker.pkg.dev/p/lowtide/worker:1"
CURL = f"""
case "$*" in
*metadata*) echo '{{"access_token":"ya29.token","expires_in":3599,"token_type":"Bearer"}}' ;;
*{SECRET}/versions/latest:access) read -r header; [ "$header" = "Authorization: Bearer ya29.token" ] || exit 22
  printf '{{\\n  "name": "x",\\n  "payload": {{\\n    "data": "aHVudGVyMg==",\\n    "dataCrc32c": "1"\\n  }}\\n}}\\n' ;;
esac
"""


def test_the_password_reaches_the_containers_and_no_command_line(machine: Path) -> None:
    stand_in(machine, "curl", CURL.replace("read -r header;", "read -r header || true;"))
    stand_in(machine, "docker", '[ "$1" != image ]; code=$?; [ "$1" = login ] && cat > /dev/null; exit $code')
    done = run(machine, "prepare.sh", IMAGE, SECRET, "redis", "10.80.0.10:6379/0")

    assert (done.returncode, done.stderr) == (0, "")
    url = (machine / "run" / "redis.env").read_text()
    assert url == "LOWTIDE_REDIS_URL=redis://:hunter2@10.80.0.10:6379/0\n"
    assert (machine / "run" / "redis.conf").read_text() == "requirepass hunter2\n"
    modes = {name: stat.S_IMODE((machine / "run" / name).stat().st_mode) for name in ("", "redis.env", "redis.conf")}
    assert modes == {"": 0o700, "redis.env": 0o600, "redis.conf": 0o444}
    assert len(list((machine / "run").iterdir())) == 2
    assert not any("hunter2" in call or "ya29" in call for call in calls(machine))
    assert [call for call in calls(machine) if call.startswith("docker")] == [
        f"docker image inspect {IMAGE}",
        "docker login -u oauth2accesstoken --password-stdin https://us-central1-docker.pkg.dev",
        f"docker pull {IMAGE}",
    ]


def test_the_url_of_memorystore_is_one_that_a_fleet_reads(machine: Path) -> None:
    """Scheme and rest are as the units have them: `memorystore_takes_the_place_of_redis_…` in fleet.tftest.hcl."""
    stand_in(machine, "curl", CURL.replace("read -r header;", "read -r header || true;"))
    stand_in(machine, "docker", "exit 0")
    authority = machine / "redis-ca.pem"
    authority.touch()
    place = f"10.1.2.3:6378/0?ssl_ca_certs={authority}&ssl_check_hostname=false"
    run(machine, "prepare.sh", IMAGE, SECRET, "rediss", place)

    name, _, url = (machine / "run" / "redis.env").read_text().strip().partition("=")
    address = RedisAddress.of(url)
    assert name == "LOWTIDE_REDIS_URL"
    assert (address.host, address.port, address.password) == ("10.1.2.3", 6378, "hunter2")
    assert address.tls == {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_check_hostname": False,
        "ssl_ca_certs": str(authority),
    }


def test_an_image_that_the_disk_has_is_not_fetched(machine: Path) -> None:
    stand_in(machine, "curl", CURL.replace("read -r header;", "read -r header || true;"))
    stand_in(machine, "docker", "exit 0")
    done = run(machine, "prepare.sh", IMAGE, SECRET, "redis", "10.80.0.10:6379/0")

    assert done.returncode == 0
    assert [call for call in calls(machine) if call.startswith("docker")] == [f"docker image inspect {IMAGE}"]


def test_without_the_secret_nothing_is_written_and_the_unit_tries_again(machine: Path) -> None:
    stand_in(machine, "curl", "exit 22")
    stand_in(machine, "docker", "exit 0")
    done = run(machine, "prepare.sh", IMAGE, SECRET, "redis", "10.80.0.10:6379/0")

    assert done.returncode == 1
    assert f"{SECRET} is empty" in done.stderr
    assert not (machine / "run" / "redis.env").exists()


@pytest.mark.parametrize(("blkid", "formatted", "mounted"), [(0, False, True), (2, True, True), (8, False, False)])
def test_only_a_disk_that_holds_nothing_gets_a_file_system(
    machine: Path, blkid: int, formatted: bool, mounted: bool
) -> None:
    device = next(path for path in map(Path, ("/dev/loop0", "/dev/sda", "/dev/vda")) if path.is_block_device())
    stand_in(machine, "mountpoint", "exit 1")
    stand_in(machine, "blkid", f"exit {blkid}")
    for name in ("mkfs.ext4", "fsck.ext4", "mount", "resize2fs"):
        stand_in(machine, name, "exit 0")
    done = run(machine, "redis.sh", str(device), str(machine / "data"))

    called = [call.split()[0] for call in calls(machine)]
    assert ("mkfs.ext4" in called, "mount" in called) == (formatted, mounted)
    assert (done.returncode == 0) is mounted


@pytest.mark.parametrize("unhealthy", [[], ["bridge"], ["bridge", "redis"]])
def test_what_docker_finds_unhealthy_is_started_again_and_the_journal_says_why(
    machine: Path, unhealthy: list[str]
) -> None:
    names = "\n".join(f"lowtide-{name}" for name in unhealthy)
    stand_in(machine, "docker", f'case $1 in ps) echo "{names}" ;; inspect) echo "it is stuck" ;; esac')
    stand_in(machine, "systemctl", "exit 0")
    done = run(machine, "heal.sh")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"lowtide-{name} is unhealthy: it is stuck" for name in unhealthy]
    restarted = [call for call in calls(machine) if call.startswith("systemctl")]
    assert restarted == [f"systemctl restart --no-block lowtide-{name}.service" for name in unhealthy]
    [asked] = [call for call in calls(machine) if call.startswith("docker ps")]
    assert "--filter name=^lowtide- --filter health=unhealthy" in asked


def test_a_disk_that_is_mounted_is_left_alone(machine: Path) -> None:
    stand_in(machine, "mountpoint", "exit 0")
    done = run(machine, "redis.sh", "/dev/null", str(machine / "data"))

    assert done.returncode == 0
    assert calls(machine) == [f"mountpoint -q {machine / 'data'}"]


def test_shellcheck_has_nothing_to_say() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    said = subprocess.run([shellcheck, *SCRIPTS.glob("*.sh")], capture_output=True, text=True, check=False)

    assert (said.stdout, said.returncode) == ("", 0)
