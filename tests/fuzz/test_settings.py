"""Environments and files of every form: settings are read, or a sentence says what is wrong, and quotes no secret."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.config import Process, Settings, SettingsError, load_settings, pubsub_emulator, read_settings
from lowtide.config.addresses import at, host_port
from lowtide.config.redis_url import RedisAddress
from lowtide.config.text import cleaned
from lowtide.tasks.app import celery_config
from lowtide.tasks.redis.connect import connect

SECRET = "hunter2"
SECRETS = ("redis_url", "flower_basic_auth")
LISTS = ("models", "reply_topics", "file_roots", "https_hosts", "gs_buckets", "subscription")

ANY = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12)
BYTES = st.binary(max_size=6).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"")))
NUMBERS = ("0", "-1", "1e6", "1,000", "20s", "64MB", "nan", "inf", "true", "None", "tcp://10.0.0.7:1")
FORMS = ("", " ", "[]", "{}", '["a,b"]', '{"a": 1}', "a,b", "a=b", "a:b", "'", "*")
PLACES = ("redis://h", "rediss://h/1", "localhost:1", "[::1]:1", "::1", "http://h:1")
WORDS = st.sampled_from((*NUMBERS, *FORMS, *PLACES))
AROUND = st.sampled_from(["{}", '"{}"', "'{}'", "{}\r", " {} ", "\ufeff{}", '"{}'])
VALUES = st.builds(lambda around, value: around.format(value), AROUND, ANY | BYTES | WORDS)
NAMES = st.sampled_from(sorted(Settings.model_fields))
LOGIN = st.builds(
    lambda user, password: f"{user}:{password}", st.text("ab\"', :[", max_size=4), st.text("xy\"', :]", max_size=6)
)


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    with mock.patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith(("LOWTIDE_", "PUBSUB_"))]:
            del os.environ[name]
        os.environ.update(variables)
        yield


def complaint(read: Callable[[], object]) -> str:
    """What is said, with what led to it."""
    try:
        read()
    except SettingsError as error:
        return f"{error} {error.__cause__ or ''}"
    return ""


@given(st.dictionaries(NAMES, VALUES, max_size=6), st.sampled_from([None, *Process]))
def test_any_environment_is_read_or_refused_in_sentences(given: dict[str, str], process: Process | None) -> None:
    with environment({f"LOWTIDE_{name.upper()}": value for name, value in given.items()}):
        said: list[str] = []
        try:
            settings = load_settings(process)
        except SettingsError as error:
            said = str(error).split("\n")
            settings = read_settings()
        assert all(line.startswith("LOWTIDE_") for line in said), said
        if not settings.wrong.keys() & {"redis_url", "prefix", "callback_queue"}:
            celery_config(settings)
        for name in settings.wrong:
            with pytest.raises(SettingsError):
                getattr(settings, name)
        written = settings.environment()
    if "models" in settings.wrong:
        return  # what else names models would be wrong beside the default ones
    with environment(written):
        again = read_settings()
        assert {name: getattr(again, name) for name in settings.model_fields_set} == {
            name: getattr(settings, name) for name in settings.model_fields_set
        }


@given(st.lists(ANY | BYTES | WORDS, max_size=3).map(tuple))
def test_a_list_that_is_handed_on_is_read_as_it_was(entries: tuple[str, ...]) -> None:
    for name in LISTS:
        if name == "models" and not entries:
            continue
        try:
            settings = Settings(**{name: entries})
        except ValueError:
            continue
        with environment(settings.environment()):
            assert getattr(read_settings(), name) == entries


@given(st.lists(LOGIN, max_size=3).map(tuple))
def test_a_login_that_is_handed_on_is_read_as_it_was(logins: tuple[str, ...]) -> None:
    with environment(Settings(flower_basic_auth=logins).environment()):
        assert load_settings().flower_basic_auth == logins


@given(LOGIN, st.lists(LOGIN, max_size=2))
def test_no_login_opens_that_is_none_of_those_that_were_meant(login: str, others: list[str]) -> None:
    """Either as one text, or as an array: what is read is what was written, or nothing is."""
    for text, meant in ((login, (login,)), (json.dumps([login, *others]), (login, *others))):
        with environment({"LOWTIDE_FLOWER_BASIC_AUTH": text}):
            try:
                found = load_settings(Process.FLOWER).flower_basic_auth
            except SettingsError:
                continue
            assert found == meant or (text is login and login.startswith("["))


@given(ANY, ANY, st.sampled_from(SECRETS), AROUND)
def test_no_sentence_quotes_what_may_be_a_secret(before: str, after: str, name: str, around: str) -> None:
    for form in ("{}", "redis://:{}@host/0", "redis://{}@host", "rediss://u:{}/1", "me:{}", '["me:{}"]', "http://{}"):
        value = around.format(form.format(before + SECRET + after))
        with environment({f"LOWTIDE_{name.upper()}": value}):
            assert SECRET not in complaint(load_settings)


URLS = st.builds(
    lambda scheme, login, host, path, query: f"{scheme}://{login}{host}{path}{query}",
    st.sampled_from(["redis", "rediss", "REDIS", "unix", "sentinel"]),
    st.sampled_from(["", ":p@", "u:p@", "u@", "u:@", ":p%2Fx@", ":p/x@", ":a@b@"]),
    st.sampled_from(["h", "h:1", "[::1]", "[::1]:7", "::1", "h:x", "", "a,b", "127.0.0.1:6380"]),
    st.sampled_from(["", "/", "/3", "/x", "//3", "/3/"]),
    st.sampled_from(["", "?db=3", "?db=x", "?ssl_cert_reqs=CERT_NONE", "?ssl_cert_reqs=none&x=1", "?", "?timeout=1"]),
)


@given(URLS | ANY)
def test_every_part_is_told_of_the_same_redis(url: str) -> None:
    try:
        address = RedisAddress.of(url)
    except ValueError:
        return
    settings = Settings(redis_url=url)
    ours = connect(settings).connection_pool.connection_kwargs
    config = celery_config(settings)

    assert RedisAddress.of(config["broker_url"]) == RedisAddress.of(address.url)
    assert (ours["host"], ours["port"], ours["db"]) == (address.host, address.port, address.db)
    assert ours.get("ssl_cert_reqs") == (config["broker_use_ssl"] or {}).get("ssl_cert_reqs")


@given(ANY | WORDS | st.from_regex(r"\[?[a-z0-9:.]{0,8}\]?:[0-9]{0,6}", fullmatch=True))
def test_host_and_port_are_read_or_the_wanted_form_is_said(text: str) -> None:
    with environment({"PUBSUB_EMULATOR_HOST": text}):
        said = complaint(pubsub_emulator)
        assert "expected host:port" in said or not said
        if not said:
            assert pubsub_emulator() == (at(*host_port(cleaned(text))) if cleaned(text) else None)


TOML = st.dictionaries(NAMES | ANY, st.integers() | st.booleans() | ANY | st.lists(ANY, max_size=2), max_size=4)


def toml(table: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(name)} = {json.dumps(value)}\r\n" for name, value in table.items())


@given(TOML.map(toml) | ANY)
def test_a_file_in_any_encoding_is_read_or_named(tmp_path_factory: Any, text: str) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "lowtide.toml"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1"):
        path.write_bytes(text.encode(encoding, errors="replace"))
        with environment({"LOWTIDE_CONFIG": str(path)}):
            said = complaint(read_settings)
            assert str(path) in said or not said
