"""Native libraries can't write into the log: tried at the process' real standard error."""

import faulthandler
import random
import threading

import pytest

from lowtide.tasks.errors import ContentError
from lowtide.workers.images import decode_image
from tests.pictures import write


def fax_of_noise() -> bytes:
    noise = random.Random(1).randbytes(20_000)
    return write.directory({256: 2000, 257: 400, 258: 1, 259: 2, 262: 0, 277: 1, 278: 400}, [noise])


def samples_out_of_bounds() -> bytes:
    """Pillow logs this one as an error."""
    return write.directory({256: 2, 257: 2, 258: 8, 259: 1, 262: 1, 277: 9999, 278: 2}, [bytes(4)])


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (fax_of_noise(), "damaged_image: the image is damaged: libtiff found"),
        (samples_out_of_bounds(), "unsupported_image"),
        (write.tiff([[[1, 2, 3]]], bits=8, photometric=2, compression=50001), "unsupported_image: WebP inside"),
    ],
)
def test_what_a_library_says_of_a_file_does_not_reach_standard_error_but_our_lines_and_stacks_do(
    content: bytes, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def run() -> None:
        try:
            decode_image(content, max_pixels=10**6)
        except ContentError as error:
            said.append(f"{error.type}: {error}")

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert capfd.readouterr().err == ""
    assert len(said) == 4
    assert all(line.startswith(kind) for line in said)
    faulthandler.dump_traceback(file=2, all_threads=False)
    assert "test_quiet.py" in capfd.readouterr().err
