import os
import socket
import subprocess
import sys


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = subprocess.run(
            [sys.executable, "-m", "lowtide.cli", "flower"],
            env={**os.environ, "LOWTIDE_FLOWER_PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert run.returncode == 1
    assert f"Error: LOWTIDE_FLOWER_PORT: can't listen on 127.0.0.1:{port}: Address already in use" in run.stderr
    assert "Traceback" not in run.stderr
