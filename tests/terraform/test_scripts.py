"""The scripts that units of the VMs run, with stand-ins for what they call."""

import shutil
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lowtide.config.redis_url import RedisAddress
from tests.terraform.cli import DEPLOY

SCRIPTS = DEPLOY / "terraform" / "templates"


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
