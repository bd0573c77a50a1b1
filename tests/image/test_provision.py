"""What bake.sh runs on its temporary VM, with stand-ins for what it calls there."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.stand_ins import StandIns

PROVISION = Path(__file__).resolve().parents[2] / "deploy" / "image" / "provision.sh"
IMAGE = "us-central1-docker.pkg.dev/my-project/lowtide/worker:1a2b3c4"

CURL = """
for url; do :; done
case "$url" in
*/attributes/lowtide-image) echo "$IMAGE" ;;
*/attributes/lowtide-driver) echo "$BRANCH" ;;
*/attributes/lowtide-settings) echo LOWTIDE_MODELS=digits ;;
*/token) echo '{"access_token":"ya29.token","expires_in":3599,"token_type":"Bearer"}' ;;
esac
"""
DOCKER = """
case "$*" in
info*) echo "$LOGS" ;;
login*) [[ $(cat) == ya29.token ]] ;;
*torch*) echo 13.0 ;;
*importlib*) echo 0.1.0+Local ;;
esac
"""


class Vm:
    """The temporary VM, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        for path in ("etc/apt/sources.list.d", "usr/share/keyrings", "run"):
            (self.root / path).mkdir(parents=True)
        (self.root / "etc" / "machine-id").write_text("0123\n")
        self.stand_ins = StandIns(folder / "bin")
        self.stand_ins.real("bash", "cat", "grep", "mkdir", "sed", "sort", "sync", "tail", "tr", "truncate")
        self.stand_ins.add("curl", CURL)
        self.stand_ins.add("docker", DOCKER)
        self.stand_ins.add(
            "linux-version", '[[ $1 != sort ]] || sort; [[ $1 != list ]] || printf "6.8\\n6.17\\n6.14\\n"'
        )
        self.stand_ins.add("modinfo", 'echo "$DRIVER"')
        self.stand_ins.add("dpkg", "echo amd64")
        for name in ("apt-get", "systemctl", "gpg", "nvidia-ctk", "cloud-init"):
            self.stand_ins.add(name)

    def run(
        self, *, branch: str = "580-server", driver: str = "580.95.05", logs: str = "[awslogs gcplogs local]"
    ) -> subprocess.CompletedProcess[str]:
        return self.stand_ins.run(
            PROVISION,
            IMAGE=IMAGE,
            BRANCH=branch,
            DRIVER=driver,
            LOGS=logs,
            LOWTIDE_ROOT=str(self.root),
            LOWTIDE_RUN=str(self.root / "run"),
        )

    def told(self, name: str) -> list[str]:
        """What it wrote under this name, for bake.sh."""
        written = [
            re.search(rf"--data (.*) -H .*/guest-attributes/lowtide/{name}$", call) for call in self.stand_ins.calls
        ]
        return [found[1] for found in written if found]

    def calls(self, *names: str) -> list[str]:
        return [call for call in self.stand_ins.calls if call.startswith(names)]


@pytest.fixture
def vm(tmp_path: Path) -> Vm:
    return Vm(tmp_path)


def test_a_disk_has_driver_docker_image_and_weights_and_says_so(vm: Vm) -> None:
    done = vm.run()

    assert (done.returncode, done.stderr) == (0, "")
    assert vm.told("state") == [
        "installing Docker",
        "installing NVIDIA's driver 580-server",
        "installing the NVIDIA Container Toolkit",
        "looking for the log driver gcplogs, by which workers log, in this Docker",
        f"pulling {IMAGE}",
        "loading the models",
        "looking at what is here",
        "tidying up",
        "done",
    ]
    assert vm.told("labels") == ["nvidia-driver=580-95-05,cuda=13-0,lowtide=0-1-0-local"]
    run = f"docker run --rm --env-file {vm.root}/run/settings.env --volume lowtide-cache:/home/lowtide/.cache {IMAGE}"
    assert vm.calls("docker")[:4] == [
        "docker info --format {{.Plugins.Log}}",
        "docker login -u oauth2accesstoken --password-stdin https://us-central1-docker.pkg.dev",
        f"docker pull {IMAGE}",
        f"{run} lowtide worker --load-only",
    ]
    assert (vm.root / "run" / "settings.env").read_text() == "LOWTIDE_MODELS=digits\n"
    assert not any("ya29" in call for call in vm.stand_ins.calls)


def test_the_driver_is_looked_up_in_the_kernel_that_boots_next(vm: Vm) -> None:
    vm.run()

    assert vm.calls("modinfo") == ["modinfo -k 6.8 -F version nvidia"]  # the last one, as linux-version sorts them here


def test_a_machine_made_of_it_is_another_one(vm: Vm) -> None:
    vm.run()

    assert (vm.root / "etc" / "machine-id").read_text() == ""
    assert vm.calls("cloud-init") == ["cloud-init clean --logs"]


def test_without_a_gpu_nothing_of_nvidia_is_installed(vm: Vm) -> None:
    done = vm.run(branch="none")

    assert (done.returncode, done.stderr) == (0, "")
    assert vm.calls("nvidia", "modinfo", "gpg") == []
    assert not any("nvidia" in call for call in vm.calls("apt-get"))
    assert vm.told("labels") == ["nvidia-driver=none,cuda=13-0,lowtide=0-1-0-local"]


@pytest.mark.parametrize(
    ("program", "step"),
    [
        ("apt-get", "installing Docker"),
        ("modinfo", "installing NVIDIA's driver 580-server"),
        ("gpg", "installing the NVIDIA Container Toolkit"),
        ("nvidia-ctk", "installing the NVIDIA Container Toolkit"),
        ("docker", "looking for the log driver gcplogs, by which workers log, in this Docker"),
        ("cloud-init", "tidying up"),
    ],
)
def test_whatever_fails_is_told_and_ends_it(vm: Vm, program: str, step: str) -> None:
    vm.stand_ins.add(program, "exit 1")
    done = vm.run()

    assert done.returncode == 1
    assert vm.told("state")[-2:] == [step, f"failed: {step}"]
    assert vm.told("labels") == []


def test_an_image_that_cannot_be_pulled_is_told(vm: Vm) -> None:
    vm.stand_ins.add("docker", f"{DOCKER}\n[[ $1 != pull ]]")  # which reads its password, else who writes it fails
    done = vm.run()

    assert done.returncode == 1
    assert vm.told("state")[-2:] == [f"pulling {IMAGE}", f"failed: pulling {IMAGE}"]


def test_a_docker_that_logs_nothing_to_google_is_no_image(vm: Vm) -> None:
    done = vm.run(logs="[awslogs local]")

    assert done.returncode == 1
    assert vm.told("state")[-1] == "failed: looking for the log driver gcplogs, by which workers log, in this Docker"


def test_a_driver_too_old_for_the_cuda_of_pytorch_is_no_image(vm: Vm) -> None:
    done = vm.run(driver="570.211.01")

    assert done.returncode == 1
    why = "PyTorch is built for CUDA 13.0, which asks for a driver from 580 on, and this one is 570.211.01"
    assert vm.told("state")[-1] == f"failed: comparing: {why}"
