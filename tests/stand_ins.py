"""Programs that stand for others on a PATH of their own, and write down how they were called."""

import shutil
import subprocess
from pathlib import Path


class StandIns:
    """`folder` is all of the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def real(self, *names: str) -> None:
        """This machine's own."""
        for name in names:
            (self.folder / name).symlink_to(str(shutil.which(name)))

    def add(self, name: str, body: str = "") -> None:
        """One that runs `body` after it has written its arguments down, on one line."""
        path = self.folder / name
        path.write_text(f'#!/bin/bash\necho "{name} ${{*//$\'\\n\'/ }}" >> "{self.folder}/.calls"\n{body}\n')
        path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """In their order."""
        calls = self.folder / ".calls"
        return calls.read_text().splitlines() if calls.exists() else []

    def environment(self, **more: str) -> dict[str, str]:
        return {"PATH": str(self.folder), "TMPDIR": str(self.folder.parent), "LC_ALL": "C.UTF-8", **more}

    def run(self, *command: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=self.environment(**more), capture_output=True, text=True, check=False)
