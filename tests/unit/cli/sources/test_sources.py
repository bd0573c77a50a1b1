import os
import socket
import sys
from pathlib import Path

import pytest

from lowtide.cli.sources.listing import Listed
from lowtide.cli.sources.sources import INLINE_MAX_BYTES, NoSource, Source, find_sources, readable


def test_folders_are_searched_and_everything_is_found_once(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("b.jpg", "deep/a.png", ".hidden/c.png", ".DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    found = find_sources([str(tmp_path), str(tmp_path / "b.jpg"), "gs://bucket/d.jpg", "gs://bucket/d.jpg"])

    assert [source.request_id for source in found] == [
        str(tmp_path / "b.jpg"),
        str(tmp_path / "deep/a.png"),
        "gs://bucket/d.jpg",
    ]


def test_links_to_folders_are_followed_once_and_not_in_circles(tmp_path: Path) -> None:
    for name in ("tree/real/a.png", "tree/b.png", "other/c.png", "other/deep/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    links = {
        "tree/0": "real",
        "tree/loop": ".",
        "tree/x": "../other",
        "tree/y": "../other",
        "other/deep/back": "../../tree",
    }
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    found = find_sources([f"{tmp_path}/tree"])

    assert [os.path.relpath(source.request_id, tmp_path) for source in found] == [
        "tree/b.png",
        "tree/real/a.png",
        "tree/x/c.png",
        "tree/x/deep/d.png",
    ]


def test_a_folder_with_nothing_in_it_is_told_of(tmp_path: Path) -> None:
    output = tmp_path / "r.jsonl"
    output.touch()
    with pytest.raises(NoSource, match=f"^{tmp_path}: nothing is in it"):
        find_sources([str(tmp_path)], outputs=[output])


@pytest.mark.parametrize("names", [["nowhere/x.jpg"], ["nowhere/x.jpg", "nowhere/y.jpg"]])
def test_when_nothing_that_was_named_is_there_it_is_an_error(names: list[str]) -> None:
    with pytest.raises(NoSource, match=r"^nowhere/x.jpg: no such file or folder"):
        find_sources(names)


def test_one_name_that_is_not_there_is_a_source_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    missing, there = find_sources([str(tmp_path)], [Listed(name="nowhere.png", where="list.txt, line 3")])[::-1]

    assert there.content() == b""
    with pytest.raises(NoSource, match=r"^nowhere.png: no such file or folder \(list.txt, line 3\)$"):
        missing.content()


def test_a_name_that_no_file_can_have_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    source = find_sources([str(tmp_path)], [Listed(name="b\0.png", where="list.txt, line 3")])[-1]

    with pytest.raises(NoSource, match=r"embedded null byte \(list.txt, line 3\)"):
        source.content()


def test_an_empty_name_is_not_the_current_folder() -> None:
    with pytest.raises(NoSource, match="empty name"):
        find_sources([""])


def test_what_is_no_file_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        said = {}
        for source in find_sources(["."]):
            with pytest.raises(NoSource) as caught:
                source.content()
            said[source.request_id] = str(caught.value).partition(": ")[2]

    assert said == {
        "broken": "No such file or directory",
        "circle": "Too many levels of symbolic links",
        "pipe": "is a pipe, not a file",
        "socket": "is a socket, not a file",
        "zero": "is a device, not a file",
    }


def test_a_name_that_is_too_long_and_a_file_that_vanished_say_so(tmp_path: Path) -> None:
    (tmp_path / "gone.png").touch()
    long, gone = find_sources(["x" * 300, str(tmp_path)])
    (tmp_path / "gone.png").unlink()

    with pytest.raises(NoSource, match="File name too long"):
        long.content()
    with pytest.raises(NoSource, match=r"gone.png: No such file"):
        gone.content()


def test_the_output_is_no_source(tmp_path: Path) -> None:
    for name in ("a.png", "results.jsonl"):
        (tmp_path / name).touch()

    found = find_sources([str(tmp_path)], outputs=[tmp_path / "." / "results.jsonl"])

    assert [source.request_id for source in found] == [str(tmp_path / "a.png")]


def test_the_file_to_which_a_shell_writes_the_output_is_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").touch()
    with (tmp_path / "results.jsonl").open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        found = find_sources([str(tmp_path)], outputs=[Path("-")])

    assert [source.request_id for source in found] == [str(tmp_path / "a.png")]


def test_names_of_any_bytes_are_found_and_none_is_written_like_another(tmp_path: Path) -> None:
    names = [b"caf\xe9.png", b"caf\\xe9.png", b"caf\\\\xe9.png", b"caf\xc3\xa9.png", b"a\\b.png", b"new\nline.png"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(name)
    found = {source.request_id.rpartition("/")[2]: source.content() for source in find_sources([str(tmp_path)])}

    assert found == {
        r"caf\xe9.png": names[0],
        r"caf\\xe9.png": names[1],
        r"caf\\\\xe9.png": names[2],
        "café.png": names[3],
        r"a\b.png": names[4],
        "new\nline.png": names[5],
    }
    assert readable("half \ud800") == r"half \ud800"


def test_a_uri_that_is_not_utf8_is_no_uri(tmp_path: Path) -> None:
    (source,) = find_sources(["gs://b/nix\udce9.png"])

    assert source.request_id == r"gs://b/nix\xe9.png"
    with pytest.raises(NoSource, match="percent-encode"):
        source.content()


def test_a_signed_url_is_asked_for_as_it_is_and_named_without_its_signature() -> None:
    urls = ["https://h/a.jpg?X-Goog-Signature=hunter2", "https://h/a.jpg?X-Goog-Signature=hunter3"]
    first, second = find_sources(urls)

    assert [first.uri, second.uri] == urls
    assert first.request_id.startswith("https://h/a.jpg?…")
    assert "hunter" not in first.request_id
    assert first.request_id != second.request_id
    assert find_sources(urls)[0].request_id == first.request_id, "so that --resume knows it again"


def test_a_large_file_is_named_to_workers_of_this_machine_and_refused_for_others(tmp_path: Path) -> None:
    large, odd = tmp_path / "large.jpg", tmp_path / "large\udce9.jpg"
    for file in (large, odd):
        with file.open("wb") as out:
            out.truncate(INLINE_MAX_BYTES + 1)
    source = Source(request_id="large", path=large)

    assert source.is_large
    assert source.content(local_files=True) == large.as_uri()
    with pytest.raises(NoSource, match="upload it"):
        source.content()
    with pytest.raises(NoSource, match="rename it"):
        Source(request_id="odd", path=odd).content(local_files=True)
