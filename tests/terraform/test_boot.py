"""What the VMs do when they boot: their cloud-config, its units, and the scripts that these run."""

import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from redis import AuthenticationError, Redis
from redis.backoff import ConstantBackoff, NoBackoff
from redis.retry import Retry

from lowtide.cli.main import COMMANDS
from lowtide.config import load_settings
from lowtide.local.redis import find_redis
from tests.ports import steady_port
from tests.terraform.cli import DEPLOY, PLACE, Terraform
from tests.terraform.machine import KINDS, Machine

SCRIPTS = DEPLOY / "terraform" / "templates"
SETTINGS = load_settings(project="my-project", fleet="blue: '{x}' %d $HOME", models="digits", health_port=9999)
CONTROL = {"redis", "bridge", "autoscale", "flower"}


@pytest.fixture(scope="module")
def machines(terraform: Terraform) -> dict[str, Machine]:
    """The control VM and a worker."""
    terraform.given(settings=SETTINGS)
    plan = terraform.planned()
    return {name: Machine(plan, name) for name in KINDS}


def test_each_machine_has_the_units_of_its_services_and_starts_them(machines: dict[str, Machine]) -> None:
    for name, services in (("control", CONTROL), ("worker", {"worker"})):
        assert machines[name].units.keys() == services
        started = re.findall(r"start --no-block lowtide-(\w+)\.service", "\n".join(machines[name].commands))
        assert sorted(started) == sorted(services)


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
    for name, unit in {**machines["control"].units, **machines["worker"].units}.items():
        path = tmp_path / f"lowtide-{name}.service"
        # What is on a VM need not be here.
        path.write_text(unit.replace("/usr/bin/docker", "/bin/true").replace("Requires=docker.service\n", ""))
        paths.append(path)
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
        "maxmemory": str(512 * 1024**2),
        "dir": str(tmp_path),
    }
    assert list((tmp_path / "appendonlydir").iterdir())


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A PATH of its own, with stand-ins that write down how they were called."""
    for name in ("sh", "sed", "base64", "mkdir", "mv", "chmod", "cat", "printf", "echo"):
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
    done = run(machine, "prepare.sh", IMAGE, SECRET, "10.80.0.10:6379")

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


def test_an_image_that_the_disk_has_is_not_fetched(machine: Path) -> None:
    stand_in(machine, "curl", CURL.replace("read -r header;", "read -r header || true;"))
    stand_in(machine, "docker", "exit 0")
    done = run(machine, "prepare.sh", IMAGE, SECRET, "10.80.0.10:6379")

    assert done.returncode == 0
    assert [call for call in calls(machine) if call.startswith("docker")] == [f"docker image inspect {IMAGE}"]


def test_without_the_secret_nothing_is_written_and_the_unit_tries_again(machine: Path) -> None:
    stand_in(machine, "curl", "exit 22")
    stand_in(machine, "docker", "exit 0")
    done = run(machine, "prepare.sh", IMAGE, SECRET, "10.80.0.10:6379")

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


def test_a_disk_that_is_mounted_is_left_alone(machine: Path) -> None:
    stand_in(machine, "mountpoint", "exit 0")
    done = run(machine, "redis.sh", "/dev/null", str(machine / "data"))

    assert done.returncode == 0
    assert calls(machine) == [f"mountpoint -q {machine / 'data'}"]


def test_shellcheck_has_nothing_to_say() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    said = subprocess.run([shellcheck, *SCRIPTS.glob("*.sh")], capture_output=True, text=True, check=False)

    assert (said.stdout, said.returncode) == ("", 0)
