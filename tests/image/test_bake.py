"""bake.sh with a stand-in for gcloud: what it asks of Google, in which order, and that it leaves no VM behind."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stand_ins import StandIns
from tests.waiting import until

IMAGE_FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "image"
BAKE = IMAGE_FOLDER / "bake.sh"
IMAGE = "us-central1-docker.pkg.dev/my-project/lowtide/worker:1a2b3c4"
CALL = ("--zone", "us-central1-b", IMAGE)
LABELS = "nvidia-driver=580-95-05,cuda=13-0,lowtide=0-1-0"
VARIABLES = {"project": "my-project", "settings": {"LOWTIDE_MODELS": "digits", "LOWTIDE_FLEET": "blue: '{x}' %d $HOME"}}

GCLOUD = r"""
[[ ! $FAILS || "$*" != *"$FAILS"* ]] || { echo "ERROR: (gcloud) $FAILS: no" >&2; exit 1; }
case "$*" in
*/state*)
  [[ -s $STATES ]] || { echo "ERROR: (gcloud) was not found" >&2; exit 1; }
  head -n 1 "$STATES"
  [[ $(wc -l <"$STATES") == 1 ]] || sed -i 1d "$STATES" ;;
*/labels*) echo "$LABELS" ;;
*status*) echo "$STATUS" ;;
*instances\ create*)
  for word; do [[ $word != *lowtide-settings=* ]] || cp "${word##*lowtide-settings=}" "$SETTINGS"; done ;;
*serial*) echo "E: Unable to locate package" ;;
esac
exit 0
"""


class Bake:
    """A machine with gcloud and lowtide, and what bake.sh does there."""

    def __init__(self, folder: Path) -> None:
        self.stand_ins = StandIns(folder / "bin")
        self.stand_ins.real("bash", "cat", "cp", "date", "dirname", "env", "head", "mktemp", "rm", "sed", "sleep")
        self.stand_ins.real("tail", "wc")
        self.stand_ins.add("python3", f'exec "{sys.executable}" "$@"')
        self.stand_ins.add("gcloud", GCLOUD)
        self.stand_ins.add("lowtide", f"echo {shlex.quote(json.dumps(VARIABLES))}")
        self.states = folder / "states"
        self.states.write_text("installing Docker\npulling it\ndone\n")
        self.settings = folder / "settings"
        self.told = {
            "FAILS": "",
            "LABELS": LABELS,
            "LOWTIDE_PAUSE_S": "0.01",
            "SETTINGS": str(self.settings),
            "STATES": str(self.states),
            "STATUS": "RUNNING",
        }

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.stand_ins.run(BAKE, *(arguments or CALL), **{**self.told, **more})

    @property
    def gcloud(self) -> list[str]:
        """What it was asked, by its first words; that the VM was asked for its state, once."""
        words = [" ".join(call.split()[1:4]) for call in self.stand_ins.calls if call.startswith("gcloud")]
        return [word for index, word in enumerate(words) if not index or words[index - 1] != word]

    def call(self, beginning: str) -> list[str]:
        [call] = [call for call in self.stand_ins.calls if call.startswith(f"gcloud {beginning}")]
        return call.split()


@pytest.fixture
def bake(tmp_path: Path) -> Bake:
    return Bake(tmp_path)


LOOKED = ["compute zones describe", "artifacts docker images"]
MADE = [*LOOKED, "compute instances create"]
ASKED = [*MADE, "compute instances get-guest-attributes"]
DELETED = "compute instances delete"


def test_an_image_is_made_of_the_vm_that_is_done_and_the_vm_deleted(bake: Bake) -> None:
    done = bake.run()

    assert (done.returncode, done.stderr) == (0, "")
    assert bake.gcloud == [*ASKED, "compute instances stop", "compute images create", DELETED]
    create, image = bake.call("compute instances create"), bake.call("compute images create")
    [name] = {bake.call(beginning)[4] for beginning in ("compute instances create", "compute images create", DELETED)}
    assert name.startswith("lowtide-worker-")
    assert image[image.index("--source-disk") + 1] == name
    assert image[image.index("--family") + 1] == "lowtide-worker"
    assert image[image.index("--labels") + 1] == LABELS
    assert image[image.index("--storage-location") + 1] == "us-central1"
    told = create[create.index("--metadata") + 1].split(",")
    assert {"enable-guest-attributes=TRUE", f"lowtide-image={IMAGE}", "lowtide-driver=580-server"} <= set(told)
    assert f"startup-script={IMAGE_FOLDER}/provision.sh" in create[create.index("--metadata-from-file") + 1]
    assert 'worker_boot_image = "projects/my-project/global/images/family/lowtide-worker"' in done.stdout
    assert [line for line in done.stdout.splitlines() if line.startswith("  ")][:3] == [
        "  installing Docker",
        "  pulling it",
        "  done",
    ]


def test_the_vm_deletes_itself_should_nobody_do_it(bake: Bake) -> None:
    bake.run()

    create = bake.call("compute instances create")
    assert create[create.index("--max-run-duration") + 1] == "2h"
    assert create[create.index("--instance-termination-action") + 1] == "DELETE"


def test_the_vm_is_told_the_settings_of_the_fleet(bake: Bake) -> None:
    bake.run()

    assert bake.settings.read_text() == "LOWTIDE_MODELS=digits\nLOWTIDE_FLEET=blue: '{x}' %d $HOME\n"


def test_without_a_gpu_there_is_no_driver_and_a_family_of_its_own(bake: Bake) -> None:
    bake.run("--cpu", *CALL)

    create, image = bake.call("compute instances create"), bake.call("compute images create")
    assert create[create.index("--metadata") + 1].endswith(",lowtide-driver=none")
    assert image[image.index("--family") + 1] == "lowtide-worker-cpu"


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ((), "--network default --scopes"),
        (("--network", "lowtide"), "--network lowtide --scopes"),
        (("--subnet", "lowtide", "--no-address"), "--subnet lowtide --no-address --scopes"),
        (("--subnet", "lowtide", "--network", "lowtide"), "--subnet lowtide --scopes"),
        (("--service-account", "baker@x"), "--network default --service-account baker@x --scopes"),
    ],
)
def test_how_the_vm_reaches_packages_and_images_is_chosen(bake: Bake, given: tuple[str, ...], asked: str) -> None:
    bake.run(*given, *CALL)

    assert f" DELETE {asked} cloud-platform " in " ".join(bake.call("compute instances create"))


@pytest.mark.parametrize(
    ("fails", "asked"),
    [
        ("zones describe", LOOKED[:1]),
        ("docker images", LOOKED),
        ("instances create", [*MADE, DELETED]),
        ("lowtide/labels", [*ASKED, DELETED]),
        ("instances stop", [*ASKED, "compute instances stop", DELETED]),
        ("images create", [*ASKED, "compute instances stop", "compute images create", DELETED]),
    ],
)
def test_whatever_fails_no_vm_is_left_and_gcloud_is_quoted(bake: Bake, fails: str, asked: list[str]) -> None:
    done = bake.run(FAILS=fails)

    assert done.returncode == 1
    assert bake.gcloud == asked
    assert f"{fails}: no" in done.stderr
    assert not [path for path in bake.stand_ins.folder.parent.iterdir() if path.name.startswith("tmp.")]


def test_a_vm_that_fails_shows_its_console_and_is_deleted(bake: Bake) -> None:
    bake.states.write_text("installing Docker\nfailed: pulling it\n")
    done = bake.run()

    assert done.returncode == 1
    assert bake.gcloud == [*ASKED, "compute instances get-serial-port-output", DELETED]
    assert "E: Unable to locate package" in done.stderr
    assert "got no further than: pulling it" in done.stderr
    assert "roles/artifactregistry.reader" in done.stderr


@pytest.mark.parametrize(
    ("more", "sentence"), [({"STATUS": "TERMINATED"}, "is TERMINATED"), ({"FAILS": "status"}, "is not to be seen")]
)
def test_a_vm_that_vanishes_is_not_waited_for(bake: Bake, more: dict[str, str], sentence: str) -> None:
    bake.states.write_text("")
    done = bake.run(**more)

    assert done.returncode == 1
    assert sentence in done.stderr
    assert bake.gcloud[-1] == DELETED


def test_a_vm_that_can_not_be_deleted_is_named_with_the_command(bake: Bake) -> None:
    done = bake.run(FAILS="instances delete")

    assert "may still be there, and cost" in done.stderr
    assert (
        f"gcloud compute instances delete {bake.call('compute images create')[4]} --project my-project" in done.stderr
    )


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_who_stops_it_leaves_no_vm_behind(bake: Bake, signum: signal.Signals, code: int) -> None:
    bake.states.write_text("installing Docker\n")
    with subprocess.Popen(
        [BAKE, *CALL],
        env=bake.stand_ins.environment(**bake.told),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        # A background job of a shell would ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 (no threads)
    ) as process:
        until(lambda: bake.gcloud == ASKED)
        process.send_signal(signum)
        assert process.wait() == code

    assert bake.gcloud[-1] == DELETED


def test_a_dry_run_prints_what_it_would_do_and_does_nothing(bake: Bake) -> None:
    (bake.stand_ins.folder / "gcloud").unlink()
    done = bake.run("--dry-run", *CALL)

    assert (done.returncode, done.stderr) == (0, "")
    printed = [" ".join(line.split()[1:4]) for line in done.stdout.splitlines()]
    assert printed == ["compute instances create", "compute instances stop", "compute images create", DELETED]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "IMAGE is missing"),
        ((IMAGE,), "--zone is missing"),
        (("--zone",), "--zone needs a value"),
        (("--zone", "--cpu", IMAGE), "--zone needs a value"),
        (("--zone", "us-central1", IMAGE), "expected one such as us-central1-b"),
        (("--zone", "us-central1-b", "worker:1"), "expected an image of Artifact Registry with its tag"),
        (("--zone", "us-central1-b", IMAGE.partition(":")[0]), "with its tag"),
        ((*CALL, "again"), "one IMAGE"),
        (("--gpu", *CALL), "there is no option --gpu"),
        (("--family", "Worker", *CALL), "small letters"),
    ],
)
def test_a_wrong_call_is_a_sentence(bake: Bake, arguments: tuple[str, ...], sentence: str) -> None:
    done = bake.stand_ins.run(BAKE, *arguments, **bake.told)

    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert bake.stand_ins.calls == []


@pytest.mark.parametrize(("absent", "sentence"), [("gcloud", "cloud.google.com/sdk"), ("lowtide", ".venv/bin")])
def test_what_is_not_installed_is_named(bake: Bake, absent: str, sentence: str) -> None:
    (bake.stand_ins.folder / absent).unlink()
    done = bake.run()

    assert done.returncode == 1
    assert f"bake.sh: {absent} is not" in done.stderr
    assert sentence in done.stderr


def test_without_a_project_nothing_is_asked(bake: Bake) -> None:
    (bake.stand_ins.folder / "lowtide").unlink()
    (bake.stand_ins.folder / "lowtide").symlink_to(Path(sys.executable).with_name("lowtide"))
    done = bake.run()

    assert done.returncode == 1
    assert "LOWTIDE_PROJECT is not set" in done.stderr
    assert bake.gcloud == []


def test_help_names_every_option(bake: Bake) -> None:
    done = bake.run("--help")

    assert done.returncode == 0
    options = {
        word
        for line in BAKE.read_text().splitlines()
        if line.endswith(";;")
        for word in line.split()
        if word[:2] == "--"
    }
    assert options
    for option in options:
        assert option.rstrip(")") in done.stdout


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="there is no gcloud on the PATH")
def test_gcloud_knows_every_option(bake: Bake, tmp_path: Path) -> None:
    bake.run("--network", "lowtide", "--no-address", "--service-account", "a@my-project.iam.gserviceaccount.com", *CALL)
    environment = {
        **os.environ,
        "CLOUDSDK_CONFIG": str(tmp_path),
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
    }
    for beginning in ("compute instances create", "compute images create", "compute instances get-guest-attributes"):
        call = next(call for call in bake.stand_ins.calls if call.startswith(f"gcloud {beginning}"))
        # Read, and refused: nobody is logged in.
        said = subprocess.run(call.split(), env=environment, capture_output=True, text=True, check=False)
        assert "active account" in said.stderr, said.stderr


def test_shellcheck_has_nothing_to_say() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    said = subprocess.run([shellcheck, *IMAGE_FOLDER.glob("*.sh")], capture_output=True, text=True, check=False)

    assert (said.stdout, said.returncode) == ("", 0)
