"""The table in docs/models.md: what becomes of each kind of picture."""

import re
from pathlib import Path

import numpy as np
import pytest

from lowtide.tasks.errors import ContentError
from lowtide.workers.images import decode_image
from tests.pictures import bmps, gifs_and_webps, jpegs, pngs, refused, tiffs
from tests.pictures.table import Row

PAGE = Path(__file__).resolve().parents[4] / "docs" / "models.md"
BEGIN, END = "| format | picture | becomes |\n|---|---|---|\n", "\n\n"

ROWS = (*jpegs.ROWS, *pngs.ROWS, *gifs_and_webps.ROWS, *bmps.ROWS, *tiffs.ROWS, *refused.ROWS)


def test_the_table_has_these_rows() -> None:
    table = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    assert table == "\n".join(map(str, ROWS))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.form}: {row.picture}")
def test_a_picture_becomes_what_its_row_says(row: Row) -> None:
    for content, truth in row.examples():
        if isinstance(truth, str):
            with pytest.raises(ContentError, match=re.escape(truth)) as caught:
                decode_image(content, max_pixels=1_000_000)
            assert f"`{caught.value.type}`" == row.becomes
        else:
            made = np.asarray(decode_image(content, max_pixels=1_000_000), float)
            assert made.shape == truth.shape
            assert abs(made - truth).max() <= row.tolerance
            light = np.asarray(decode_image(content, max_pixels=1_000_000, mode="L"), float)
            assert abs(light - truth @ (0.299, 0.587, 0.114)).max() <= row.tolerance + 0.5
