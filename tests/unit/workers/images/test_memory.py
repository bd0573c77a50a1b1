import json
import struct
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from PIL import Image, ImageFile

from lowtide.tasks.errors import ContentError, MemoryShort
from lowtide.workers.images import decode_image
from lowtide.workers.images.memory import DecodeMemory, reserve
from tests.pictures import write

WAIT_S = 10


class Decoder(threading.Thread):
    """Reserves, and holds until it is let go."""

    def __init__(self, shared: DecodeMemory, *wanted_bytes: int) -> None:
        super().__init__(daemon=True)
        self.shared, self.wanted_bytes = shared, wanted_bytes
        self.admitted, self.rests, self.leave = threading.Event(), threading.Event(), threading.Event()
        self.start()

    @contextmanager
    def resting(self) -> Iterator[None]:
        self.rests.set()
        yield

    def run(self) -> None:
        with self.shared.share(resting=self.resting):
            for wanted_bytes in self.wanted_bytes:
                reserve(wanted_bytes)
            self.admitted.set()
            self.leave.wait(WAIT_S)

    def goes_on(self) -> bool:
        return self.admitted.wait(WAIT_S)

    def waits(self) -> bool:
        return self.rests.wait(WAIT_S) and not self.admitted.is_set()

    def end(self) -> None:
        self.leave.set()
        self.join(WAIT_S)


def test_all_threads_together_take_no_more_than_there_is() -> None:
    shared = DecodeMemory(100)
    first, second = Decoder(shared, 60), Decoder(shared, 40)
    assert first.goes_on()
    assert second.goes_on()
    third = Decoder(shared, 10)
    assert third.waits()
    second.end()
    assert third.goes_on()
    first.end()
    third.end()


def test_a_picture_that_needs_more_than_there_is_runs_alone() -> None:
    shared = DecodeMemory(100)
    small = Decoder(shared, 1)
    assert small.goes_on()
    huge = Decoder(shared, 1000)
    assert huge.waits()
    small.end()
    assert huge.goes_on()
    other = Decoder(shared, 1)
    assert other.waits()
    huge.end()
    assert other.goes_on()
    other.end()


def test_small_pictures_do_not_overtake_a_large_one_for_ever() -> None:
    shared = DecodeMemory(100)
    first = Decoder(shared, 60)
    assert first.goes_on()
    large = Decoder(shared, 90)
    assert large.waits()
    small = Decoder(shared, 10)
    assert small.waits()
    first.end()
    assert large.goes_on()
    assert small.goes_on()
    large.end()
    small.end()


def test_who_holds_some_does_not_wait_for_more() -> None:
    shared = DecodeMemory(100)
    first = Decoder(shared, 60)
    assert first.goes_on()
    second = Decoder(shared, 30, 30)
    assert second.goes_on()
    first.end()
    second.end()


def test_what_a_thread_took_is_released_whatever_happens() -> None:
    shared = DecodeMemory(100)
    for _ in range(3):
        with suppress(OSError), shared.share():
            reserve(100)
            raise OSError
    assert shared.fits(100)


def test_outside_of_a_worker_there_is_nothing_to_wait_for() -> None:
    reserve(10**15)


def test_memory_that_is_short_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", short)
    with pytest.raises(MemoryShort) as caught:
        decode_image(write.bmp([bytes(4)], width=1, bits=24), max_pixels=100)
    assert (caught.value.type, caught.value.retryable) == ("memory_short", True)


def sixteen_entries_of_the_same_megabytes() -> bytes:
    tags = (254, 256, 257, 258, 259, 262, 266, 277, 278, 281, 284, 332, 338, 339, 530, 50706)
    entries = b"".join(struct.pack("<HHII", tag, 4, 4_000_000, 256) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries.ljust(300, b"\0") + bytes(16_000_000)


def a_million_entries() -> bytes:
    return b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 900_000) + bytes(20 * 900_000)


def very_many_chunks() -> bytes:
    content = write.png([[[1]]], bits=8, colour=0)
    return content[:33] + write.chunk(b"IDAT", b"") * 400_000 + content[33:]


def very_many_tables() -> bytes:
    return b"\xff\xd8" + b"\xff\xdb\0\2" * 2_000_000 + b"\xff\xda\0\2"


@pytest.mark.parametrize(
    "content",
    [sixteen_entries_of_the_same_megabytes, a_million_entries, very_many_chunks, very_many_tables],
)
def test_a_header_takes_little_memory_whatever_it_lists(content) -> None:
    made = content()
    tracemalloc.start()
    try:
        with pytest.raises(ContentError):
            decode_image(made, max_pixels=64_000_000)
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


TRIED = """
import json, os, resource, sys
from pathlib import Path
from lowtide.tasks.errors import ContentError
from lowtide.workers.images import decode_image, memory
def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))
def measured(content):
    reserved = []
    memory.reserve = reserved.append
    before = status("VmRSS")
    decode_image(content, max_pixels=64_000_000)
    return [max(status("VmHWM"), status("VmRSS")) - before, reserved[0]]
def short(content):
    resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + 15_000_000,) * 2)
    try:
        decode_image(content, max_pixels=64_000_000)
    except ContentError as error:
        return error.type
decode_image(Path(sys.argv[1]).read_bytes(), max_pixels=64)
for path in sys.argv[2:]:
    for tried in (measured, short):
        if not os.fork():
            print(json.dumps([Path(path).name, tried.__name__, tried(Path(path).read_bytes())]), flush=True)
            os._exit(0)
        os.wait()
"""
"""Each picture in a fresh process, without a fresh start of torch each time."""

SAVED = {
    "PNG": ("RGBA", {}),
    "JPEG": ("CMYK", {"progressive": True}),
    "WEBP": ("RGBA", {"lossless": True, "method": 0, "quality": 0}),
    "TIFF": ("YCbCr", {"compression": "zstd"}),
}
SIDE_PX = 2000
SLACK_BYTES = 8_000_000
"""Of the allocator, and of code that is loaded meanwhile."""


@pytest.fixture(scope="module")
def tried(tmp_path_factory) -> dict[tuple[str, str], Any]:
    folder = tmp_path_factory.mktemp("pictures")
    Image.new("RGB", (8, 8)).save(folder / "small", "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = Image.effect_noise((SIDE_PX // 4, SIDE_PX // 4), 60).resize((SIDE_PX, SIDE_PX), Image.Resampling.NEAREST)
    for form, (mode, options) in SAVED.items():
        noise.convert(mode).save(folder / form, form, exif=exif, **options)
    paths = [folder / "small", *(folder / form for form in SAVED)]
    ran = subprocess.run([sys.executable, "-c", TRIED, *map(str, paths)], capture_output=True, check=True)
    return {(form, what): found for form, what, found in map(json.loads, ran.stdout.splitlines())}


@pytest.mark.parametrize("form", SAVED)
def test_a_decoder_that_gets_no_memory_does_not_call_the_picture_damaged(form: str, tried) -> None:
    assert tried[form, "short"] == "memory_short"


@pytest.mark.parametrize("form", SAVED)
def test_decoding_takes_no_more_than_was_reserved(form: str, tried) -> None:
    took_bytes, reserved_bytes = tried[form, "measured"]
    assert SIDE_PX * SIDE_PX * 4 < took_bytes <= reserved_bytes + SLACK_BYTES
    assert reserved_bytes <= 32 * SIDE_PX * (SIDE_PX + 1) + 180_000_000  # as docs/models.md says
