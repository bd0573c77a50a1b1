"""Damaged pictures, of every row of the table: refused in our words or answered, and nothing beside."""

import functools
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lowtide.tasks.errors import ContentError
from lowtide.workers.images import decode_image
from tests.pictures import bmps, gifs_and_webps, jpegs, pngs, refused, tiffs

MAX_PIXELS = 100_000
TYPES = {"not_an_image", "unsupported_image", "truncated_image", "damaged_image", "image_too_large"}


class Change(NamedTuple):
    """Of a content: at a part of its length, what is put in place of so many bytes."""

    at: float
    instead_of: int
    put: bytes


HEADERS = st.floats(0, 0.999).map(lambda at: at**4)
"""Where formats have most of what can be wrong."""

CHANGES = st.lists(
    st.builds(
        Change,
        at=st.floats(0, 0.999) | HEADERS,
        instead_of=st.integers(0, 4),
        put=st.binary(max_size=4) | st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"]),
    ),
    min_size=1,
    max_size=5,
)


@functools.cache
def contents() -> list[bytes]:
    rows = (*jpegs.ROWS, *pngs.ROWS, *gifs_and_webps.ROWS, *bmps.ROWS, *tiffs.ROWS, *refused.ROWS)
    return [content for row in rows for content, _ in list(row.examples())[:12]]


def changed(content: bytes, changes: list[Change], kept: float) -> bytes:
    for change in changes:
        at = int(change.at * len(content))
        content = content[:at] + change.put + content[at + change.instead_of :]
    return content[: int(kept * len(content))]


@contextmanager
def nothing_said(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """On standard error, by whatever is in this process, or in the log."""
    caplog.clear()
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        assert file.read() == b""
    assert caplog.records == []


def memory_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def made_of(content: bytes, **options) -> Image.Image | ContentError:
    try:
        return decode_image(content, max_pixels=MAX_PIXELS, **options)
    except ContentError as error:
        return error


@given(
    which=st.integers(min_value=0),
    changes=CHANGES,
    kept=st.just(1.0) | st.floats(0, 1),
    mode=st.sampled_from(["RGB", "L"]),
    enough_px=st.sampled_from([None, 4]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_refused_in_our_words_or_answered_as_a_picture(which, changes, kept, mode, enough_px, caplog) -> None:
    caplog.set_level(logging.INFO)
    content = changed(contents()[which % len(contents())], changes, kept)
    before_bytes = memory_bytes()
    with nothing_said(caplog), warnings.catch_warnings(action="ignore", category=UserWarning):
        made = made_of(content, mode=mode, enough_px=enough_px)
    if isinstance(made, ContentError):
        assert made.type in TYPES
        assert str(made)
    else:
        assert made.mode == mode
        assert 0 < made.width * made.height <= MAX_PIXELS
        assert len(made.tobytes()) == made.width * made.height * len(mode)
    assert memory_bytes() - before_bytes < 200_000_000
