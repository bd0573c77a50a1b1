import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from lowtide.cli.deploy.boot_time import PHASES, PROBE, BootTime, NoBootTime, boot_time_of, table
from lowtide.cli.main import main
from tests.stand_ins import StandIns

DEPLOY_PAGE = Path(__file__).resolve().parents[4] / "docs" / "deploy.md"
CREATED_AT = 990.0
START = {"process": 1024.5, "imports": 1040.0, "redis": 1040.25, "models": 1049.0, "warm_up_s": 1.5, "ready": 1049.75}


DRIVER = "nvidia-persistenced.ActiveEnterTimestampMonotonic"
RESTARTS = "lowtide-worker.NRestarts"
RUN = "lowtide-worker.ExecMainStartTimestampMonotonic"

GCLOUD = """
command=${!#}
case $2 in
instances) echo 1970-01-01T01:16:20.000+01:00 ;;
ssh) sh -c "${command#--command=}" ;;
esac
"""


def answer(changed: Mapping[str, str] | None = None, *, start: object = START) -> str:
    """Of a VM whose kernel started at 1000, now at 1100."""
    said = {
        "now": "1100.000000000",
        "uptime": "100.00",
        "UserspaceTimestampMonotonic": "3000000",
        DRIVER: "9000000",
        "nvidia-persistenced.ExecMainStartTimestampMonotonic": "8500000",
        "docker.ActiveEnterTimestampMonotonic": "15000000",
        "docker.NRestarts": "2",
        "lowtide-worker.InactiveExitTimestampMonotonic": "19000000",
        RUN: "22000000",
        "lowtide-worker.ActiveEnterTimestampMonotonic": "22000000",
        RESTARTS: "0",
        "healthz": json.dumps({"status": "ok", "start": start}),
        **(changed or {}),
    }
    return "".join(f"{name}={value}\n" for name, value in said.items())


def took(boot_time: BootTime) -> dict[str, float]:
    return {one.phase.name: round(one.took_s, 3) for one in boot_time.phases}


WORKER = {"imports": 15.5, "redis": 0.25, "weights": 7.25, "warm-up": 1.5, "ready": 0.75}


def test_a_vm_is_told_from_its_creation_to_the_first_task_and_nothing_in_between_is_lost() -> None:
    boot_time = boot_time_of(answer(), port=8080, created_at=CREATED_AT)

    assert took(boot_time) == {
        "machine": 10.0,
        "kernel": 3.0,
        "driver": 6.0,
        "docker": 6.0,
        "cloud-init": 4.0,
        "prepare": 3.0,
        "container": 2.5,
        **WORKER,
    }
    assert boot_time.took_s == pytest.approx(START["ready"] - CREATED_AT)
    assert boot_time.budget_s == sum(phase.budget_s for phase in PHASES)


def test_a_phase_that_ends_before_those_that_come_first_took_nothing() -> None:
    boot_time = boot_time_of(answer({DRIVER: "20000000"}), port=8080, created_at=CREATED_AT)

    assert {name: took(boot_time)[name] for name in ("driver", "docker", "cloud-init", "prepare")} == {
        "driver": 17.0,
        "docker": 0.0,
        "cloud-init": 0.0,
        "prepare": 2.0,
    }
    assert boot_time.took_s == pytest.approx(START["ready"] - CREATED_AT)


def test_without_a_gpu_there_is_no_driver_and_no_budget_for_one() -> None:
    boot_time = boot_time_of(answer({DRIVER: "0"}), port=8080, created_at=CREATED_AT)

    assert "driver" not in took(boot_time)
    assert took(boot_time)["docker"] == 12.0
    assert boot_time.budget_s == sum(phase.budget_s for phase in PHASES if phase.name != "driver")


@pytest.mark.parametrize(
    ("changed", "note"), [({RESTARTS: "3"}, "started again 3 times"), ({RUN: "0"}, "no unit lowtide-worker")]
)
def test_what_is_not_the_boot_of_this_machine_is_not_told_as_such(changed: dict[str, str], note: str) -> None:
    boot_time = boot_time_of(answer(changed), port=8080, created_at=CREATED_AT)

    assert took(boot_time) == WORKER
    assert note in boot_time.note


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (answer(start={name: at for name, at in START.items() if name != "ready"}), "takes no tasks yet"),
        (answer(start=None), "no worker answers at port 8080"),
        ("healthz=\n", "no worker answers at port 8080"),
        ("", "no worker answers at port 8080"),
        ("lacks=curl\n", "has no curl"),
    ],
)
def test_a_worker_that_tells_nothing_is_a_sentence(said: str, sentence: str) -> None:
    with pytest.raises(NoBootTime, match=sentence):
        boot_time_of(said, port=8080)


def test_a_phase_beyond_its_budget_stands_out() -> None:
    slow = boot_time_of(answer({DRIVER: "14000000"}), port=8080, created_at=CREATED_AT)
    quick = boot_time_of(answer({DRIVER: "7000000"}), port=8080, created_at=CREATED_AT)

    assert [line.split()[0] for line in table(slow) if "OVER" in line] == ["driver"]
    assert table(slow)[-1].split()[:3] == ["together", "59.8", "s"]
    assert (slow.is_over, quick.is_over) == (True, False)


def test_a_machine_asked_on_the_spot_does_not_know_when_it_was_created() -> None:
    boot_time = boot_time_of(answer(), port=8080)

    assert list(took(boot_time))[:2] == ["kernel", "driver"]
    assert boot_time.took_s == pytest.approx(START["ready"] - 1000.0)


@pytest.fixture
def gcloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIns:
    """One that runs what is said through SSH here, on a machine that answers as a VM does."""
    stand_ins = StandIns(tmp_path / "bin")
    stand_ins.real("sh", "sed", "echo")
    stand_ins.add("gcloud", GCLOUD)
    stand_ins.add("date", "echo now=1100.000000000")
    stand_ins.add("systemctl", r'case "$2" in docker*) echo ActiveEnterTimestampMonotonic=15000000 ;; esac')
    stand_ins.add("curl", f"echo '{json.dumps({'start': START})}'")
    monkeypatch.setenv("PATH", str(stand_ins.folder))
    return stand_ins


def boot_time(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["deploy", "boot-time", *arguments], env={"LOWTIDE_PROJECT": "my-project"})
    return result.exit_code, result.output


def test_a_vm_is_asked_through_gcloud(gcloud: StandIns) -> None:
    code, said = boot_time("lowtide-worker-x7k2", "--zone", "us-central1-a", "--port", "8081", "--json")

    assert code == 0, said
    assert {one["name"] for one in json.loads(said.splitlines()[0])["phases"]} == set(WORKER)
    there = "lowtide-worker-x7k2 --zone=us-central1-a --project=my-project"
    asked = [call for call in gcloud.calls if call.startswith("gcloud")]
    assert asked[0] == f"gcloud compute instances describe {there} --format=value(creationTimestamp)"
    assert asked[1].startswith(f"gcloud compute ssh {there} --tunnel-through-iap --quiet --command=")
    assert any("http://127.0.0.1:8081/healthz" in call for call in gcloud.calls if call.startswith("curl"))


def test_what_gcloud_complains_of_is_quoted(gcloud: StandIns) -> None:
    gcloud.add("gcloud", "echo 'ERROR: The resource was not found' >&2; exit 1")
    code, said = boot_time("lowtide-worker-x7k2", "--zone", "us-central1-a")

    assert code == 1
    assert "gcloud compute describe failed: ERROR: The resource was not found" in said


def test_without_gcloud_it_says_where_that_is_had(gcloud: StandIns) -> None:
    (gcloud.folder / "gcloud").unlink()
    code, said = boot_time("lowtide-worker-x7k2", "--zone", "us-central1-a")

    assert (code, said) == (1, "Error: gcloud is not installed: https://cloud.google.com/sdk/docs/install\n")


@pytest.mark.parametrize("arguments", [["lowtide-worker-x7k2"], ["--zone", "us-central1-a"]])
def test_a_vm_needs_a_zone_and_a_zone_a_vm(arguments: list[str]) -> None:
    code, said = boot_time(*arguments)

    assert code == 2
    assert "belong together" in said


def test_the_page_has_each_phase_with_its_budget() -> None:
    rows = re.findall(r"^\| ([a-z-]+) \| .* \| (\d+) s \|", DEPLOY_PAGE.read_text(), re.MULTILINE)

    assert [(name, float(budget)) for name, budget in rows] == [(phase.name, phase.budget_s) for phase in PHASES]


def test_shellcheck_has_nothing_to_say_of_what_a_machine_is_asked(tmp_path: Path) -> None:
    script = tmp_path / "probe.sh"
    script.write_text("#!/bin/sh\n" + PROBE.format(port=8080))
    shellcheck = Path(sys.executable).with_name("shellcheck")
    said = subprocess.run([shellcheck, script], capture_output=True, text=True, check=False)

    assert (said.stdout, said.returncode) == ("", 0)
