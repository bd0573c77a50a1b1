import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lowtide.tasks.errors import ContentError, InvalidRequest
from lowtide.workers.models.digits import Digits, DigitsNet
from lowtide.workers.models.weights import WeightsError

EXAMPLES = Path(__file__).parents[4] / "examples" / "digits"
ACCURACY_AT_LEAST = 0.97


@pytest.fixture(scope="module")
def digits():
    model = Digits("digits")
    model.load(torch.device("cpu"))
    return model


def held_out():
    with (EXAMPLES / "labels.csv").open(newline="") as table:
        return [(EXAMPLES / "images" / row["file"], row["label"]) for row in csv.DictReader(table)]


def answers(model, contents):
    scores = model.predict(torch.stack([model.decode(content, {}) for content in contents]))
    return [model.encode(score, {})[0]["label"] for score in scores]


def encoded(picture, form="PNG", **options):
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def test_the_held_out_digits_are_recognised(digits: Digits) -> None:
    files = held_out()
    right = [
        answer == label
        for answer, (_, label) in zip(answers(digits, [path.read_bytes() for path, _ in files]), files, strict=True)
    ]
    assert len(files) >= 300
    assert sum(right) / len(right) >= ACCURACY_AT_LEAST


def test_every_held_out_file_has_a_label_and_is_small() -> None:
    files = [path for path, _ in held_out()]
    assert sorted(files) == sorted((EXAMPLES / "images").iterdir())
    assert sum(path.stat().st_size for path in files) < 500_000


def test_a_held_out_image_is_the_scan_that_its_label_is_of(digits: Digits) -> None:
    """The files are images of the data set, none of them twice; labels.csv says what the data set says."""
    from sklearn.datasets import load_digits  # two seconds, here and not in every process that collects tests

    data = load_digits()
    known = {
        (image * 255 / 16).round().astype(np.uint8).tobytes(): str(label)
        for image, label in zip(data.images, data.target, strict=True)
    }
    seen = {digits.decode(path.read_bytes(), {}).numpy().tobytes(): label for path, label in held_out()}
    assert len(seen) == len(held_out())
    assert all(known[scan] == label for scan, label in seen.items())


def test_outputs_are_the_three_best_with_scores_of_a_probability(digits: Digits) -> None:
    content = held_out()[0][0].read_bytes()
    outputs = digits.encode(digits.predict(digits.decode(content, {}).unsqueeze(0))[0], {})
    assert len(outputs) == 3
    assert outputs[0]["label"] == str(outputs[0]["index"]) == held_out()[0][1]
    assert 0.9 < outputs[0]["score"] <= 1
    assert len(digits.encode(torch.full((10,), 0.1), {"top_k": 10})) == 10


@pytest.mark.parametrize(
    ("change", "form"),
    [
        (lambda picture: picture.resize((400, 400), Image.Resampling.BICUBIC), "JPEG"),
        (lambda picture: picture.resize((8, 8), Image.Resampling.BOX), "PNG"),
        (lambda picture: Image.eval(picture, lambda value: 255 - value), "PNG"),  # ink on paper
        (lambda picture: picture.convert("RGB"), "WEBP"),
    ],
    ids=["large", "tiny", "dark on light", "colour"],
)
def test_size_format_and_polarity_do_not_matter(digits: Digits, change: Any, form: str) -> None:
    files = held_out()[:60]
    contents = [encoded(change(Image.open(path)), form) for path, _ in files]
    right = [answer == label for answer, (_, label) in zip(answers(digits, contents), files, strict=True)]
    assert sum(right) >= 57


def test_every_pixel_of_a_large_image_counts(digits: Digits) -> None:
    stripes = Image.fromarray(np.tile(np.array([0, 100], np.uint8), (16, 8)))
    assert set(digits.decode(encoded(stripes), {}).flatten().tolist()) == {50}


def test_what_is_no_good_is_refused_while_decoding(digits: Digits) -> None:
    with pytest.raises(ContentError):
        digits.decode(b"seven", {})
    with pytest.raises(InvalidRequest):
        digits.decode(held_out()[0][0].read_bytes(), {"top_k": 11})


def test_weights_of_ones_own_are_loaded_and_change_the_version(digits: Digits, tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    torch.save(DigitsNet().state_dict(), path)
    mine = Digits("digits", weights=path.as_uri())
    mine.load(torch.device("cpu"))
    assert mine.version != digits.version
    torch.save(torch.nn.Linear(1, 1).state_dict(), path)
    with pytest.raises(WeightsError, match="another model than DigitsNet"):
        Digits("digits", weights=path.as_uri()).load(torch.device("cpu"))


def test_a_picture_that_is_narrow_and_tall_is_shrunk_along_its_height_first(monkeypatch) -> None:
    shrink, sizes = Image.Image.resize, []
    monkeypatch.setattr(
        Image.Image, "resize", lambda self, size, *rest: sizes.append(size) or shrink(self, size, *rest)
    )
    stripes = Image.fromarray(np.repeat(np.arange(8, dtype=np.uint8) * 30, 500)[:, None])

    ink = Digits("digits").decode(encoded(stripes), {})

    assert sizes[0] == (1, 8)
    assert ink[0, :, 0].tolist() == [30 * each for each in range(8)]
