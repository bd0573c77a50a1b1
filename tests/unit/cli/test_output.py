import json
from pathlib import Path

import pytest

from lowtide.cli.output import OutputExists, open_output

CAT = {"request_id": "cat.jpg", "status": "ok", "outputs": [{"label": "cat", "score": 0.9}, {"label": "dog"}]}
BAD = {"request_id": "bad.jpg", "status": "failed", "outputs": []}


def test_json_lines_hold_results_whole(tmp_path: Path) -> None:
    output, finished = open_output(tmp_path / "new" / "results.jsonl")
    output.write(CAT)

    assert not finished
    assert json.loads((tmp_path / "new" / "results.jsonl").read_text()) == CAT
    output.close()


def test_csv_holds_filename_and_prediction(tmp_path: Path) -> None:
    output, _ = open_output(tmp_path / "results.csv")
    output.write(CAT)
    output.write(BAD)
    output.write({"request_id": "sum", "outputs": [3]})
    output.close()

    assert (tmp_path / "results.csv").read_text().splitlines() == [
        "filename,prediction",
        "cat.jpg,cat",
        "bad.jpg,",
        "sum,[3]",
    ]


@pytest.mark.parametrize("name", ["results.jsonl", "results.csv"])
def test_resuming_knows_what_is_finished_and_adds_to_it(tmp_path: Path, name: str) -> None:
    for result in (CAT, BAD):
        output, finished = open_output(tmp_path / name, resume=True)
        output.write(result)
        output.close()

    assert finished == {"cat.jpg"}
    output, finished = open_output(tmp_path / name, resume=True)
    output.close()
    assert finished == {"cat.jpg", "bad.jpg"}


@pytest.mark.parametrize("name", ["results.jsonl", "results.csv"])
def test_a_line_that_was_cut_off_is_run_again(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for result in (CAT, BAD):
        output, _ = open_output(path, resume=True)
        output.write(result)
        output.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    output, finished = open_output(path, resume=True)
    output.write(BAD)
    output.close()

    assert finished == {"cat.jpg"}
    assert path.read_bytes() == whole


def test_results_are_not_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("precious\n")

    with pytest.raises(OutputExists, match="--resume"):
        open_output(path)
    open_output(path, overwrite=True)[0].close()
    assert path.read_text() == ""
