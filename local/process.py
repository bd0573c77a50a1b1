"""`ChildProcess`: one process of the local stack, started again when it ends by itself, gone when we are gone. And what
processes need: a port, and an eye on their logs.
"""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

log = logging.getLogger(__name__)

STOP_GRACE_S = 25.0
"""Longer than a worker's own grace period, so that it hands its work back by itself."""

RESTART_PAUSE_S = 1.0

TIE = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
parent = int(sys.argv[1])
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
for signum in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and what is ignored stays so
    signal.signal(signum, signal.SIG_DFL)
if os.getppid() == parent:  # else it ended before we asked
    os.execvp(sys.argv[2], sys.argv[2:])
"""


def tied(command: Sequence[str]) -> list[str]:
    """The command, to be started by this process: Linux sends it a SIGTERM when we end, however we end.

    It asks for that itself, in an interpreter that then becomes the command. Asked for between fork and exec
    (`preexec_fn`), the child runs Python among the locks of threads that it does not have: beside gRPC's it can abort.
    """
    return [sys.executable, "-I", "-S", "-c", TIE, str(os.getpid()), *command]


def free_port(wanted: int = 0) -> int:
    """`wanted` when nothing listens there, else any free port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return free_port()
        return int(probe.getsockname()[1])


def end_of(log_path: Path, *, lines: int) -> str:
    """What a process wrote last."""
    if not log_path.exists():
        return "(there is no log)"
    return "\n".join(log_path.read_text(errors="replace").splitlines()[-lines:])


class ChildProcess:
    """A command under supervision. `log_path` gets its standard output and error."""

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str], log_path: Path, restart: bool = True
    ) -> None:
        self.name = name
        self.log_path = log_path
        self.restarts = 0
        self.exit_code: int | None = None
        """Of its last run that ended by itself; negative: the signal that ended it."""
        self._command = list(command)
        self._env = {**os.environ, **env}
        self._restart = restart
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher = threading.Thread(target=self._watch, name=f"watch-{name}", daemon=True)

    @property
    def pid(self) -> int | None:
        """The running process' id."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start it, and start it again whenever it ends before `stop`."""
        # PR_SET_PDEATHSIG follows the thread that forks, not the process: the watcher lives as long as the child.
        self._watcher.start()

    def retire(self) -> None:
        """When it ends by itself, do not start it again."""
        self._restart = False

    def wait(self, timeout_s: float) -> None:
        """Until a process that was retired has ended, at most so long."""
        self._watcher.join(timeout_s)

    def stop(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """SIGTERM, and SIGKILL after the grace period. Idempotent."""
        self.terminate()
        self.join(grace_s=grace_s)

    def terminate(self) -> None:
        """SIGTERM now; `join` waits."""
        self._stopping.set()
        if self._process and self._process.poll() is None:
            self._process.terminate()

    def join(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """Wait for the end that `terminate` asked for."""
        if not self._watcher.is_alive():
            return
        began_s = time.monotonic()
        self._watcher.join(grace_s)
        if self._watcher.is_alive() and self._process:
            log.warning("%s did not stop in %.0f s: killed", self.name, time.monotonic() - began_s)
            self._process.kill()
            self._watcher.join()

    def tail(self, lines: int = 20) -> str:
        """The end of its log."""
        return end_of(self.log_path, lines=lines)

    def _watch(self) -> None:
        while not self._stopping.is_set():
            with self.log_path.open("ab") as output:
                self._process = subprocess.Popen(
                    tied(self._command),
                    env=self._env,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a Ctrl-C in the terminal is ours to pass on, in order
                )
            if self._stopping.is_set():  # stopped between the look and the start
                self._process.terminate()
            code = self._process.wait()
            if self._stopping.is_set() or not self._restart:
                return
            self.exit_code = code
            self.restarts += 1
            log.warning("%s ended with %s: starting it again", self.name, code)
            self._stopping.wait(RESTART_PAUSE_S)
            if not self._restart:  # retired in the pause
                return
