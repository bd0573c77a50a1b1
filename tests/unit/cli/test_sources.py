import io
from pathlib import Path

import pytest

from lowtide.cli.sources import INLINE_MAX_BYTES, NoSource, Source, find_sources, names_in


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


def test_a_missing_path_is_named() -> None:
    with pytest.raises(NoSource, match="nowhere/x.jpg: no such file"):
        find_sources(["nowhere/x.jpg"])


def test_a_signed_url_is_asked_for_as_it_is_and_named_without_its_signature() -> None:
    urls = ["https://h/a.jpg?X-Goog-Signature=hunter2", "https://h/a.jpg?X-Goog-Signature=hunter3"]
    first, second = find_sources(urls)

    assert [first.uri, second.uri] == urls
    assert first.request_id.startswith("https://h/a.jpg?…")
    assert "hunter" not in first.request_id
    assert first.request_id != second.request_id
    assert find_sources(urls)[0].request_id == first.request_id, "so that --resume knows it again"


def test_a_list_may_have_blank_lines_and_comments() -> None:
    assert names_in(io.StringIO("# photos\ngs://b/1.jpg\n\n  2.jpg \n")) == ["gs://b/1.jpg", "2.jpg"]


def test_a_small_file_travels_inline_and_a_uri_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"jpeg")

    assert Source(request_id="a", path=file).message() == (b"jpeg", {"request_id": "a"})
    assert Source(request_id="u", uri="gs://b/o").message() == (
        b"",
        {"uri": "gs://b/o", "request_id": "u"},
    )


def test_a_large_file_is_named_to_workers_of_this_machine_and_refused_for_others(tmp_path: Path) -> None:
    file = tmp_path / "large.jpg"
    with file.open("wb") as out:
        out.truncate(INLINE_MAX_BYTES + 1)
    source = Source(request_id="large", path=file)

    assert source.message(local_files=True)[1]["uri"] == file.as_uri()
    with pytest.raises(NoSource, match="upload it"):
        source.message()
