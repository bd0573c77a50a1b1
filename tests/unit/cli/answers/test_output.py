import json
import os
import sys
import threading
from pathlib import Path

import pytest

from lowtide.cli.answers.earlier import OutputDamaged
from lowtide.cli.answers.output import OutputExists, OutputFailed, open_output

CAT = {"request_id": "cat.jpg", "status": "ok", "outputs": [{"label": "cat", "score": 0.9}, {"label": "dog"}]}
BAD = {
    "request_id": "bad.jpg",
    "status": "failed",
    "outputs": [],
    "error": {"type": "truncated_image", "message": "cut, off"},
}
LATE = {"request_id": "late.jpg", "status": "expired", "outputs": [], "error": None}
NAMES = ["results.jsonl", "results.csv"]
OUTCOMES = {"cat.jpg": None, "bad.jpg": "truncated_image", "late.jpg": "expired"}


def write(path: Path, *results: dict[str, object], **how: bool) -> dict[str, str | None]:
    """Adds to a file; what it held before."""
    with open_output(path, **{"resume": True, **how}) as output:
        before = dict(output.outcomes)
        for result in results:
            output.write(result)
    return before


def test_json_lines_hold_results_whole(tmp_path: Path) -> None:
    assert not write(tmp_path / "new" / "results.jsonl", CAT)

    assert json.loads((tmp_path / "new" / "results.jsonl").read_text()) == CAT


def test_csv_tells_a_failure_from_an_answer(tmp_path: Path) -> None:
    nothing = {"request_id": "none", "status": "ok", "outputs": []}
    write(tmp_path / "results.csv", CAT, BAD, LATE, {"request_id": "sum", "status": "ok", "outputs": [3]}, nothing)

    assert (tmp_path / "results.csv").read_text().splitlines() == [
        "filename,prediction,status,error",
        "cat.jpg,cat,ok,",
        'bad.jpg,,failed,"truncated_image: cut, off"',
        "late.jpg,,expired,expired",
        "sum,[3],ok,",
        "none,,ok,",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_resuming_knows_what_became_of_each_and_adds_to_it(tmp_path: Path, name: str) -> None:
    assert write(tmp_path / name, CAT) == {}
    assert write(tmp_path / name, BAD, LATE) == {"cat.jpg": None}
    assert write(tmp_path / name) == OUTCOMES


@pytest.mark.parametrize("name", NAMES)
def test_what_is_tried_again_has_one_row_in_the_end_the_last(tmp_path: Path, name: str) -> None:
    path = tmp_path / "real" / name
    path.parent.mkdir()
    write(path, BAD, CAT)
    path.chmod(0o640)
    link = tmp_path / name
    link.symlink_to(path)
    with open_output(link, resume=True) as output:
        output.write({**BAD, "status": "ok", "outputs": [{"label": "dog"}], "error": None})
        assert len(path.read_text().splitlines()) == 3 + (name == "results.csv"), "until then nothing is lost"

    assert write(path) == {"cat.jpg": None, "bad.jpg": None}
    assert len(path.read_text().splitlines()) == 2 + (name == "results.csv")
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_killed_run_has_written_twice_has_one_row_after_the_next(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write(path, BAD)
    row = path.read_bytes().splitlines(keepends=True)[-1]
    path.write_bytes(path.read_bytes() + row)

    assert write(path, CAT) == {"bad.jpg": "truncated_image"}
    assert path.read_bytes().count(row) == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cut", range(1, 8))
def test_a_row_that_was_cut_off_is_run_again(tmp_path: Path, name: str, cut: int) -> None:
    path = tmp_path / name
    odd = {**CAT, "request_id": 'new\nline, "quoted" é.jpg', "outputs": [{"label": 'a\n"é'}]}
    write(path, CAT, odd)
    whole = path.read_bytes()
    path.write_bytes(whole[: -cut if name == "results.csv" else -cut - 1])

    assert write(path, odd) == {"cat.jpg": None}
    assert path.read_bytes() == whole


def test_a_last_line_without_an_end_that_is_whole_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(CAT))

    assert write(path, BAD) == {"cat.jpg": None}
    assert write(path) == {"cat.jpg": None, "bad.jpg": "truncated_image"}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_other_programs_have_saved_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write(path, CAT, BAD, LATE)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") + b"\r\n")

    assert write(path, {**CAT, "request_id": "new"}) == OUTCOMES
    assert write(path) == {**OUTCOMES, "new": None}


def test_csv_files_that_were_joined_have_no_row_of_their_heads(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    write(path, CAT)
    path.write_bytes(path.read_bytes() * 2)

    assert write(path) == {"cat.jpg": None}


@pytest.mark.parametrize("end", [b'{"requ', b"\0" * 4096])
def test_what_a_stopped_run_leaves_at_the_end_is_cut_away(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "results.jsonl"
    write(path, CAT)
    whole = path.read_bytes()
    path.write_bytes(whole + end)

    assert write(path) == {"cat.jpg": None}
    assert path.read_bytes() == whole


@pytest.mark.parametrize("name", NAMES)
def test_a_file_without_a_row_stands_in_no_way_and_a_short_one_does(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for _ in range(2):
        open_output(path).__exit__()
    path.write_bytes(b"a,b\n")

    with pytest.raises(OutputExists):
        open_output(path)
    assert path.read_bytes() == b"a,b\n"


def test_answers_of_another_model_are_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    write(path, {**BAD, "model": "Cats"})
    open_output(path, model="cats", resume=True).__exit__()
    write(path, {**CAT, "model": "dogs"})

    with pytest.raises(OutputExists, match="holds answers of dogs, not of cats: name another file"):
        open_output(path, model="cats", resume=True)


def test_a_standard_output_that_is_closed_takes_no_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)
    with pytest.raises(OutputFailed, match="standard output is closed"):
        open_output(Path("-"))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("o.jsonl", b'{"request_id": "a", "status": "ok"}\nhello\n\n', "line 2: not JSON"),
        ("o.jsonl", b'{"request_id": "a", "status": "ok"}\n{"b": 1}\n', "line 2: not a result"),
        ("o.jsonl", b"[1]\n", "line 1: not a result"),
        ("o.jsonl", b'{"images": [1]}', "line 1: not a result"),
        ("o.jsonl", b"notes, without an end", "line 1: not JSON"),
        ("o.jsonl", b'\n{"request_id": "\xe9", "status": "ok"}\n', "line 2: not UTF-8"),
        ("o.jsonl", "{}".encode("utf-16"), "line 1: UTF-16"),
        ("o.jsonl", b"[" * 100_000 + b"\n", "line 1: not JSON"),
        ("o.csv", b"name;label\r\n", "line 1: expected filename,prediction,status,error"),
        ("o.csv", b"notes, without an end", "line 1: expected filename,prediction,status,error"),
        ("o.csv", b"filename,prediction,status,error\ra,2,ok,\r", "line 1: expected filename,prediction,status,error"),
        ("o.csv", b"filename,prediction,status,error\r\na,2,ok,\r\nb,2\r\n", "line 3: expected 4 columns, got 2"),
        ("o.csv", b"filename,prediction,status,error\r\ncaf\xe9,2,ok,\r\n", "line 2: not UTF-8"),
        ("o.csv", b'filename,prediction,status,error\r\n"a"b,2,ok,\r\n', "line 2: not CSV"),
        ("o.csv", b'filename,prediction,status,error\r\n"a,2,ok,\r\n' + b"b,2,ok,\r\n" * 20, "line 2: not CSV"),
    ],
)
def test_what_is_no_output_of_ours_is_left_alone_and_told_of_with_its_line(
    tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)

    with pytest.raises(OutputDamaged) as caught:
        write(path, CAT)
    assert str(caught.value).startswith(f"{path}, {said}")
    assert path.read_bytes() == data


def test_results_are_not_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("precious\n")

    with pytest.raises(OutputExists, match="--resume"):
        open_output(path)
    write(path, resume=False, overwrite=True)
    assert path.read_text() == ""


@pytest.mark.parametrize("how", [{"resume": True}, {"resume": False, "overwrite": True}], ids=["resume", "overwrite"])
def test_a_second_run_is_refused_a_file_that_another_is_writing(tmp_path: Path, how: dict[str, bool]) -> None:
    path = tmp_path / "results.jsonl"
    write(path, BAD)
    with open_output(path, resume=True) as first:
        first.write(CAT)
        with pytest.raises(OutputFailed, match=r"results\.jsonl: another run is writing it"):
            write(path, LATE, **how)
        first.write({**BAD, "status": "ok"})

    assert write(path) == {"cat.jpg": None, "bad.jpg": None}


def test_a_run_that_opens_a_file_while_another_puts_a_new_one_in_its_place_writes_to_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, new = tmp_path / "results.jsonl", tmp_path / "new"
    write(path, BAD)
    write(new, CAT)
    monkeypatch.setattr("fcntl.flock", lambda *_: new.exists() and new.replace(path))

    write(path, LATE)

    assert write(path) == {"cat.jpg": None, "late.jpg": "expired"}


@pytest.mark.parametrize("name", NAMES)
def test_what_utf8_can_not_say_is_written_escaped(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, {**CAT, "outputs": [{"label": "half \ud800"}]})

    assert b"half \\ud800" in (tmp_path / name).read_bytes()
    assert write(tmp_path / name) == {"cat.jpg": None}


def test_no_space_is_a_sentence_that_names_the_file() -> None:
    with open_output(Path("/dev/full")) as output, pytest.raises(OutputFailed, match="^/dev/full: No space left"):
        output.write(CAT)


def test_a_place_where_no_file_can_be_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(OutputFailed, match="Not a directory|File exists"):
        open_output(tmp_path / "file" / "results.jsonl")


def test_a_pipe_takes_json_lines_and_can_not_be_resumed(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    with open_output(pipe) as output:
        output.write(BAD)
        output.write(BAD)
    reader.join(10)

    assert [json.loads(line) for line in read[0].splitlines()] == [BAD, BAD]
    with pytest.raises(OutputFailed, match="--resume needs a file"):
        open_output(pipe, resume=True)


@pytest.mark.parametrize("name", NAMES)
def test_what_an_output_holds_can_be_read_again_the_latest_row_of_each(tmp_path: Path, name: str) -> None:
    better = {"request_id": "late.jpg", "status": "ok", "outputs": [{"label": "café"}]}
    write(tmp_path / name, CAT, BAD, LATE)
    with open_output(tmp_path / name, resume=True) as output:
        output.write(better)
        held = {result["request_id"]: result for result in output.held()}

    assert list(held) == ["cat.jpg", "bad.jpg", "late.jpg"]
    assert held["bad.jpg"]["error"] == {"type": "truncated_image", "message": "cut, off"}
    assert "cat" in str(held["cat.jpg"]["outputs"])
    assert "café" in str(held["late.jpg"]["outputs"])


def test_a_stream_holds_nothing_that_can_be_read_again() -> None:
    with open_output(Path("/dev/null")) as output:
        output.write(CAT)

        assert not list(output.held())
