"""Wheels that hold what a file of tests is made from. Only `renew` modules, which are run by hand, download them."""

import subprocess
import sys
import tempfile
from pathlib import Path


def downloaded_wheel(requirement: str, folder: Path) -> Path:
    """The wheel of a requirement, such as `name==1.2`, in the folder."""
    with tempfile.TemporaryDirectory() as environment:
        # Ours is made by uv, and has no pip.
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        pip = [f"{environment}/bin/python", "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        subprocess.run([*pip, requirement], check=True)
    [wheel] = folder.glob("*.whl")
    return wheel
