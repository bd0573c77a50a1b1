"""Files in the place of weights: damaged, cut off, or of another kind. Each is loaded or refused in words."""

import contextlib
import io
import tempfile
import warnings
import zipfile
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from lowtide.workers.models.state_dict import WeightsError
from lowtide.workers.models.weights import fill, load_state_dict


def checkpoint(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cats.pth", b"content")
    return file.getvalue()


STATE = nn.Linear(3, 2).state_dict()
FILES = (
    checkpoint(STATE),
    checkpoint({"model": STATE, "epoch": 3}, _use_new_zipfile_serialization=False),
    checkpoint(nn.Linear(3, 2)),
    save(STATE),
    zipped(),
    b"<html>404</html>",
    b"version https://git-lfs.github.com/spec/v1\n",
    b"",
)


@st.composite
def damaged(draw):
    content = bytearray(draw(st.sampled_from(FILES)))
    for at, byte in draw(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=6)):
        if content:  # counted from the end, where zip archives have their directory
            content[-1 - at % len(content)] = byte
    end = len(content) if draw(st.booleans()) else draw(st.integers(0, len(content)))
    return bytes(content[:end])


@given(content=damaged() | st.binary(max_size=64))
def test_a_file_in_the_place_of_weights_is_loaded_or_refused_in_words(content) -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of old pickles, zipfile of names that are there twice
        path = Path(folder) / "w.pth"
        path.write_bytes(content)
        module = nn.Linear(3, 2)
        with contextlib.suppress(WeightsError):
            fill(module, load_state_dict(path), source="w.pth")
