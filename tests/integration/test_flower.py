import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.ports import steady_port

FLOWER = [sys.executable, "-m", "lowtide.cli", "flower"]
START_S = 60.0


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = subprocess.run(
            FLOWER,
            env={**os.environ, "LOWTIDE_FLOWER_PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert run.returncode == 1
    assert f"Error: LOWTIDE_FLOWER_PORT: can't listen on 127.0.0.1:{port}: Address already in use" in run.stderr
    assert "Traceback" not in run.stderr


LOGINS = ("admin:s3cr,et:7", "comma:ab,", "blank:ab ", "plain:a$b%41#c")


@pytest.fixture(scope="module")
def flower(redis_server) -> Iterator[str]:
    """Open to the network, in a Pod beside a Service called flower."""
    port = steady_port()
    env = {
        "LOWTIDE_REDIS_URL": redis_server.url,
        "LOWTIDE_FLOWER_ADDRESS": "0.0.0.0",
        "LOWTIDE_FLOWER_PORT": str(port),
        "LOWTIDE_FLOWER_BASIC_AUTH": json.dumps(LOGINS),
        "FLOWER_PORT": "tcp://10.0.0.7:5555",
    }
    process = subprocess.Popen(FLOWER, env={**os.environ, **env}, stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}"
    until_s = time.monotonic() + START_S
    while status(url, "/healthcheck") != 200:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until_s
        time.sleep(0.1)
    yield url
    process.terminate()
    process.communicate()


def status(url: str, path: str, login: str = "") -> int:
    request = urllib.request.Request(url + path)
    if login:
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.mark.parametrize("login", LOGINS)
def test_a_login_opens_whole_whatever_its_password_holds(flower: str, login: str) -> None:
    assert status(flower, "/workers", login) == 200


@pytest.mark.parametrize(
    "part", ["", "admin:s3cr", "et:7", "admin:s3cr,et", "comma:ab", "blank:ab", "plain:a$bA#c", "admin:", "admin"]
)
def test_no_part_of_a_login_opens(flower: str, part: str) -> None:
    assert status(flower, "/workers", part) == 401
