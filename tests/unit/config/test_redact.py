import logging
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.config import SettingsError, load_settings
from lowtide.config.process.logs import configure_logging
from lowtide.config.redact import redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:hunter2@host:6379/0", "redis://:…@host:6379/0"),
        ("rediss://fleet:hunter2@host/0?ssl_ca_certs=/ca.pem", "rediss://fleet:…@host/0?…"),
        ("redis://fleet:p@ss:w@rd@host/0", "redis://fleet:…@host/0"),
        ("a=redis://h/0,b=redis://:hunter2@host/0", "a=redis://h/0,b=redis://:…@host/0"),
        ("https://token@host/a", "https://…@host/a"),
        ("https://host:8443/a@b:c", "https://host:8443/a@b:c"),
        ("see 'https://host/a?X-Goog-Signature=ab&x=1', then", "see 'https://host/a?…', then"),
        ("https://host/a?sig=a%2Fb%3D: the server answers 403", "https://host/a?…: the server answers 403"),
        ("https://host/a?whole-query-is-the-token", "https://host/a?…"),
        ("retries exceeded with url: /a?X-Amz-Signature=ab (Caused by", "retries exceeded with url: /a?… (Caused by"),
        ('{"uri": "https://host/a?token=x", "n": 1}', '{"uri": "https://host/a?…", "n": 1}'),
        ("gs://bucket/cat.jpg and file:///a/b.png", "gs://bucket/cat.jpg and file:///a/b.png"),
        ("https://h/c?f='x'&X-Goog-Signature=ab is not allowed", "https://h/c?… is not allowed"),
        ("https://h/c?title=it's&sig=ab", "https://h/c?…"),
        ("https://h/c?f=a b&X-Goog-Signature=ab", "https://h/c?… b&…"),
        ('https://h/c?f="a"&sig=ab', 'https://h/c?…"a"&…'),
        ("https://h/c?f=<b>&sig=ab", "https://h/c?…<b>&…"),
        ("https://h/page#access_token=ab", "https://h/page#…"),
        ("https://h/page#section", "https://h/page#section"),
        ("redis://u:p'w@h/0", "redis://u:…@h/0"),
        ("{'uri': 'https://h/c?sig=ab'}", "{'uri': 'https://h/c?…'}"),
        ("what? a = b? why ?", "what? a = b? why ?"),
        ("'really?' & 'a=b', issue #5", "'really?' & 'a=b', issue #5"),
        ("", ""),
    ],
)
def test_passwords_and_queries_of_urls_are_hidden_and_nothing_else(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown


@given(
    path=st.text("abc/%.", max_size=8),
    before=st.lists(st.tuples(st.text("ab-_", min_size=1), st.text("xy'\"<> %+.)", max_size=6)), max_size=3),
)
def test_no_signature_is_shown_whatever_comes_before_it(path: str, before: list[tuple[str, str]]) -> None:
    query = "&".join(f"{name}={value}" for name, value in [*before, ("X-Goog-Signature", "hunter2")])
    assert "hunter2" not in redacted(f"fetching https://host/{path}?{query} failed")


@pytest.mark.parametrize("piece", ["a", "?", "://", "?a", "&", "&a", "#=", "?'", "://a:", "://@", "@", ":", "?a="])
def test_a_long_text_takes_no_time(piece: str) -> None:
    began_s = time.monotonic()
    redacted(piece * (1_000_000 // len(piece)))
    assert time.monotonic() - began_s < 30.0


def test_no_log_line_shows_a_secret_not_even_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = []
    try:
        configure_logging(load_settings())
        try:
            raise ValueError("redis://:hunter2@host/0")
        except ValueError:
            logging.getLogger("any").exception("reading %s", "https://host/a?sig=hunter2")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    said = capsys.readouterr().err

    assert "reading https://host/a?…" in said
    assert "ValueError: redis://:…@host/0" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2/x@host:6379/0",
        "http://:hunter2@host",
        "hunter2",
        "redis://:hunter2@host:port/0",
        "redis://:hunter2'@host",
    ],
)
def test_a_wrong_redis_url_is_refused_without_being_quoted(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("LOWTIDE_REDIS_URL", url)
    with pytest.raises(SettingsError, match=r"^LOWTIDE_REDIS_URL: expected redis://") as caught:
        load_settings()

    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__cause__}"


def test_settings_are_shown_without_their_secrets() -> None:
    settings = load_settings(redis_url="redis://:hunter2@host/0", flower_basic_auth="me:hunter2", weights={})

    assert "hunter2" not in f"{settings!r} {settings}"
    assert settings.environment()["LOWTIDE_FLOWER_BASIC_AUTH"] == "me:hunter2"
