import logging
import time

import pytest

from lowtide.config import SettingsError, load_settings
from lowtide.config.logs import configure_logging
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
        ("what? a = b? why ?", "what? a = b? why ?"),
        ("", ""),
    ],
)
def test_passwords_and_queries_of_urls_are_hidden_and_nothing_else(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown


@pytest.mark.parametrize("piece", ["a", "?", "://", "?a", "://a:", "://@", "@", ":", "?a="])
def test_a_long_text_takes_no_time(piece: str) -> None:
    began_s = time.monotonic()
    redacted(piece * (1_000_000 // len(piece)))
    assert time.monotonic() - began_s < 5.0


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
