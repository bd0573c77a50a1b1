"""What people and other programs may hand to the command line: lists, names, outputs, messages."""

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lowtide.bridge.messages.kinds import Received, Translated
from lowtide.bridge.messages.translate import Rules, translate
from lowtide.cli.answers.answers import NoResult, failure_of, read_result
from lowtide.cli.answers.earlier import OutputDamaged
from lowtide.cli.answers.output import CSV, JSON_LINES, Format
from lowtide.cli.commands.results import line
from lowtide.cli.sources.listing import ListUnreadable, names_in
from lowtide.cli.sources.requests import request_message
from lowtide.cli.sources.sources import Source, readable
from lowtide.cli.terminal import shown
from lowtide.config.text import is_utf8

HARD = [
    "\\",
    "x",
    "e",
    "9",
    "u",
    "d",
    "\udce9",
    "\ud800",
    "\n",
    "\r",
    '"',
    ",",
    " ",
    "\x85",
    "\u2028",
    "é",
    "#",
    "\ufeff",
]
NAMES = st.text(st.sampled_from(HARD) | st.characters(), min_size=1, max_size=12)
FILE_NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: b"\0" not in name) | NAMES.filter(
    lambda name: "\0" not in name and "\ud800" not in name
).map(lambda name: name.encode("utf-8", "surrogatepass"))
LINES = FILE_NAMES.filter(
    lambda name: (
        not re.search(rb"[\r\n]|://", name) and os.fsdecode(name) == os.fsdecode(name).strip().lstrip("#\ufeff")
    )
)
BYTES = st.binary(max_size=200) | st.lists(
    st.sampled_from([b'"', b"\n", b"\r", b",", b"{", b"}", b"\0", b"a", b"\xe9"])
).map(b"".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
RESULTS = st.fixed_dictionaries(
    {
        "request_id": NAMES.map(readable),
        "model": NAMES,
        "status": st.sampled_from(["ok", "failed", "expired"]),
        "outputs": st.none() | st.lists(st.fixed_dictionaries({"label": JSON}) | JSON, max_size=2),
        "error": st.none() | st.fixed_dictionaries({"type": st.sampled_from(["a", "b"]), "message": NAMES}),
    }
).map(lambda one: {**one, "error": None if one["status"] == "ok" else one["error"]})
FORMATS = st.sampled_from([JSON_LINES, CSV])
RULES = Rules(models=frozenset({"m"}), default_model=None, results_topic="r", reply_topics={})


@given(names=st.lists(LINES, max_size=5), ending=st.sampled_from([b"\n", b"\r\n"]), bom=st.booleans())
def test_a_list_of_any_names_names_them(names: list[bytes], ending: bytes, bom: bool) -> None:
    data = b"\xef\xbb\xbf" * bom + b"".join(name + ending for name in names)
    if not re.match(rb"\xff\xfe|\xfe\xff|\0\0\xfe\xff", data):
        assert [os.fsencode(each.name) for each in names_in(data, called="l")] == names


@given(names=st.lists(FILE_NAMES.filter(lambda name: len(name) > 2), min_size=2, max_size=5))
def test_a_list_with_zeros_between_the_names_holds_any(names: list[bytes]) -> None:
    data = b"".join(name + b"\0" for name in names)
    if not re.match(rb"\xff\xfe|\xfe\xff|\xef\xbb\xbf", data):
        assert [os.fsencode(each.name) for each in names_in(data, called="l")] == names


@given(data=BYTES)
def test_no_list_is_more_than_a_sentence(data: bytes) -> None:
    with contextlib.suppress(ListUnreadable):
        names_in(data, called="l")


@given(one=NAMES, other=NAMES)
def test_no_two_names_are_written_alike(one: str, other: str) -> None:
    assert is_utf8(readable(one))
    assert (readable(one) == readable(other)) == (one == other)


def outcomes(results: list[dict[str, Any]]) -> dict[str, str | None]:
    return {result["request_id"]: failure_of(result) for result in results}


@given(results=st.lists(RESULTS, max_size=4), form=FORMATS, cut=st.integers(0, 60))
def test_an_output_tells_what_was_written_and_what_was_cut_off_is_as_if_it_never_was(
    results: list[dict[str, Any]], form: Format, cut: int
) -> None:
    rows = [form.row(result) for result in results]
    whole = form.head + b"".join(rows)
    data = whole[: max(0, len(whole) - cut)]

    earlier = form.read(data, Path("o"))

    kept = len(earlier.rows)
    assert kept >= sum(len(form.head) + sum(map(len, rows[: number + 1])) <= len(data) for number in range(len(rows)))
    assert earlier.outcomes == outcomes(results[:kept])
    resumed = data[: earlier.end] or form.head
    resumed += b"" if resumed.endswith(b"\n") or not resumed else b"\n"
    assert form.read(resumed + b"".join(rows[kept:]), Path("o")).outcomes == outcomes(results)


@given(data=BYTES, form=FORMATS, headed=st.booleans())
def test_no_file_is_more_than_a_sentence(data: bytes, form: Format, headed: bool) -> None:
    with contextlib.suppress(OutputDamaged):
        form.read(form.head * headed + data, Path("o"))


def message(data: bytes) -> Received:
    return Received(subscription="s", ack_id="a", message_id="1", data=data, attributes={}, published_s=0.0)


@given(
    data=BYTES | JSON.map(lambda value: json.dumps(value).encode()) | RESULTS.map(lambda one: json.dumps(one).encode())
)
def test_any_message_is_a_line_for_a_terminal_or_is_said_to_be_no_result(data: bytes) -> None:
    try:
        said = line(read_result(message(data)))
    except NoResult as error:
        said = shown(str(error))
    assert said.isprintable()
    assert is_utf8(said)


@given(content=BYTES.filter(bool), name=NAMES)
def test_no_content_is_read_as_a_request(content: bytes, name: str) -> None:
    class File(Source):
        def content(self, *, local_files: bool = False) -> bytes | str:
            return content

    sent = request_message(File(request_id=readable(name)), "m", {})
    received = Received(
        subscription="s",
        ack_id="a",
        message_id="1",
        data=sent.data,
        attributes=dict(sent.attributes),
        published_s=0.0,
    )
    asked = translate(received, RULES)

    assert isinstance(asked, Translated)
    assert asked.request.content() == content
    assert asked.request_id == readable(name)
