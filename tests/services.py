"""What tests, drills and benchmarks run against, as processes of their own: Pub/Sub servers and a browser."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from playwright.sync_api import Browser, sync_playwright

from lowtide.local.process import tied
from tests.ports import steady_port

READY_TIMEOUT_S = 120.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
EMULATOR_JARS = "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*.jar"


class EmulatorMissing(Exception):
    """Raised when this machine can't run Google's emulator. The message names what to install."""


class BrowserMissing(Exception):
    """Raised when this machine has no Chromium. The message names what to install."""


class TerraformMissing(Exception):
    """Raised when this machine has no terraform. The message names where it comes from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PubsubEndpoint:
    """A running Pub/Sub server. `host` is what PUBSUB_EMULATOR_HOST takes."""

    kind: str
    host: str
    pid: int


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window. Raises BrowserMissing."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise BrowserMissing(f"there is none of {', '.join(BROWSERS)} on the PATH (apt install chromium)")
    # Its sandbox asks for more than a container grants, and what it opens is ours.
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=path, args=["--no-sandbox"]) as browser,
    ):
        yield browser


@contextmanager
def google_emulator(log_path: Path, *, port: int = 0) -> Iterator[PubsubEndpoint]:
    """Google's own Pub/Sub emulator. Raises EmulatorMissing."""
    jar = emulator_jar()
    port = port or steady_port()
    # The serial collector starts no threads of its own, and the second compiler pays in longer runs only: the machine
    # is shared with the tests.
    frugal = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    command = ["java", *frugal, "-jar", str(jar), "--host=127.0.0.1", f"--port={port}"]
    with _served("emulator", command, port=port, log_path=log_path) as endpoint:
        yield endpoint


@contextmanager
def local_pubsub(log_path: Path, *, port: int = 0) -> Iterator[PubsubEndpoint]:
    """Our own Pub/Sub server, as a process."""
    port = port or steady_port()
    command = [sys.executable, "-m", "lowtide.local.pubsub", f"--port={port}"]
    with _served("ours", command, port=port, log_path=log_path) as endpoint:
        yield endpoint


def emulator_jar() -> Path:
    """The emulator of the installed Cloud SDK, or of LOWTIDE_TEST_EMULATOR_JAR. Raises EmulatorMissing."""
    if shutil.which("java") is None:
        raise EmulatorMissing("there is no java on the PATH, which Google's Pub/Sub emulator needs")
    if path := os.environ.get("LOWTIDE_TEST_EMULATOR_JAR"):
        return Path(path)
    gcloud = shutil.which("gcloud")
    # The layout of every installation: <sdk root>/bin/gcloud. Asking gcloud itself costs a second.
    roots = [Path(gcloud).resolve().parents[1]] if gcloud else []
    roots += [Path("/usr/lib/google-cloud-sdk"), Path("/usr/share/google-cloud-sdk")] if gcloud else []
    if jar := next((jar for root in roots for jar in sorted(root.glob(EMULATOR_JARS))), None):
        return jar
    raise EmulatorMissing("gcloud's pubsub-emulator component is not installed, and LOWTIDE_TEST_EMULATOR_JAR is unset")


def terraform() -> Path:
    """The terraform on the PATH. Raises TerraformMissing."""
    if path := shutil.which("terraform"):
        return Path(path)
    raise TerraformMissing("there is no terraform on the PATH (https://developer.hashicorp.com/terraform/install)")


@contextmanager
def _served(kind: str, command: list[str], *, port: int, log_path: Path) -> Iterator[PubsubEndpoint]:
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            tied(command),  # a killed pytest leaves nothing behind
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, port=port, log_path=log_path)
        yield PubsubEndpoint(kind=kind, host=f"127.0.0.1:{port}", pid=process.pid)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], *, port: int, log_path: Path) -> None:
    """Not just an open socket: the emulator accepts connections half a second before it answers."""
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ready = grpc.channel_ready_future(channel)
        while process.poll() is None and time.monotonic() < deadline_s:
            try:
                ready.result(timeout=0.1)
                return
            except grpc.FutureTimeoutError:
                continue
    raise RuntimeError(f"{process.args!r} did not become ready:\n{log_path.read_text(errors='replace')[-2000:]}")
