import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from celery.backends.redis import RedisBackend
from kombu import Connection
from redis import Redis

from lowtide.config import Process, SettingsError, load_settings
from lowtide.config.redis_url import RedisAddress
from lowtide.tasks.app import App, celery_config, configure
from lowtide.tasks.redis.connect import connect

SPELLINGS = {
    ssl.CERT_NONE: ("none", "None", "CERT_NONE", "cert_none", "ssl.CERT_NONE"),
    ssl.CERT_OPTIONAL: ("optional", "CERT_OPTIONAL"),
    ssl.CERT_REQUIRED: ("required", "REQUIRED", "CERT_REQUIRED", ""),
}


def spelt() -> Iterator[tuple[str, ssl.VerifyMode]]:
    for needs, words in SPELLINGS.items():
        yield from ((f"rediss://h/0{f'?ssl_cert_reqs={word}' if word else ''}", needs) for word in words)


@pytest.mark.parametrize(("url", "needs"), tuple(spelt()))
def test_every_part_is_told_the_same_of_certificates(url: str, needs: ssl.VerifyMode) -> None:
    settings = load_settings(redis_url=url)
    told = {"ssl_cert_reqs": needs, "ssl_check_hostname": needs is not ssl.CERT_NONE}
    config = celery_config(settings)

    assert config["broker_use_ssl"] == config["redis_backend_use_ssl"] == told
    ours = connect(settings).connection_pool.connection_kwargs
    assert {name: ours[name] for name in told} == told


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("redis://h", ("h", 6379, 0, None, None)),
        ("REDIS://h:1/3", ("h", 1, 3, None, None)),
        ("redis://h?db=3", ("h", 6379, 3, None, None)),
        ("redis://h/3?db=3", ("h", 6379, 3, None, None)),
        ("redis://[::1]:6380/2", ("::1", 6380, 2, None, None)),
        ("redis://:p%40s%2Fs@h", ("h", 6379, 0, None, "p@s/s")),
        ("redis://u%3A:p+w@h", ("h", 6379, 0, "u:", "p+w")),
        ("redis://:@h", ("h", 6379, 0, None, None)),
    ],
)
def test_every_part_reads_host_database_and_login_alike(
    url: str, parts: tuple[str, int, int, str | None, str | None]
) -> None:
    host, port, db, username, password = parts
    address = RedisAddress.of(url)
    ours = Redis.from_url(address.url).connection_pool.connection_kwargs
    kombu = Connection(address.url)
    backend = App("x", set_as_current=False, backend=address.url, changes={"redis_backend_use_ssl": None}).backend

    assert (address.host, address.port, address.db, address.username, address.password) == parts
    assert RedisAddress.of(address.url) == address
    for found in (ours, backend.connparams):
        assert (found["host"], found["port"], found["db"]) == (host, port, db)
        assert (found.get("username") or None, found.get("password")) == (username, password)
    assert (kombu.hostname, kombu.port, kombu.virtual_host) == (host, port, str(db))
    assert (kombu.userid or None, kombu.password) == (username, password)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("redis://h/abc", "database is a number, such as /0"),
        ("redis://h/1?db=2", "two databases"),
        ("redis://h?socket_timeout=3", "the parameter socket_timeout is none .*known are db, ssl_cert_reqs"),
        ("redis://h?db=1&db=1", "a parameter twice"),
        ("redis://u?hunter2=x", "a parameter is none"),
        ("redis://u/hunter2", "database is a number"),
        ("redis://hunter2@h", "a user without a password"),
        ("unix:///run/redis.sock", r"unix:// is a Unix socket"),
        ("redis+socket:///run/redis.sock", r"redis\+socket:// is a Unix socket"),
        ("sentinel://a:1;sentinel://b:2", "sentinel:// is Sentinel"),
        ("redis://a:1,b:2/0", "several servers"),
        ("redis://h?ssl_cert_reqs=none", "ssl_cert_reqs is for TLS: write rediss://"),
        ("rediss://h?ssl_cert_reqs=maybe", "required, optional or none: got 'maybe'"),
        ("rediss://h?ssl_check_hostname=maybe", "true or false: got 'maybe'"),
        ("rediss://h?ssl_cert_reqs=none&ssl_check_hostname=true", "no certificate to look at"),
        ("rediss://h?ssl_ca_certs=/no/such.pem", "ssl_ca_certs names /no/such.pem, and there is no such file"),
        ("redis://u:12?hunter2@h", "^LOWTIDE_REDIS_URL: expected redis://"),
        ("redis://u:12/hunter2@h", "^LOWTIDE_REDIS_URL: expected redis://"),
        ("redis://u:hunter2#@h", "^LOWTIDE_REDIS_URL: expected redis://"),
        ("redis://::1:6379", "^LOWTIDE_REDIS_URL: expected redis://"),
        ("amqp://u:hunter2@h", "amqp:// is RabbitMQ"),
    ],
)
def test_what_the_parts_would_read_differently_is_refused_and_no_secret_is_quoted(url: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint) as refused:
        load_settings(Process.CALLER, redis_url=url)
    assert "hunter2" not in str(refused.value)


def test_files_of_certificates_reach_every_part(tmp_path: Path) -> None:
    file = tmp_path / "a+b.pem"
    file.touch()
    address = RedisAddress.of(f"rediss://h?ssl_ca_certs={file}&ssl_certfile={file}&ssl_keyfile={file}")

    assert address.tls is not None
    assert {address.tls[name] for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")} == {str(file)}
    assert "?" not in address.url


def test_a_wrong_setting_sends_no_task_to_a_rabbitmq_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_REDIS_URL", "rediss://h?ssl_cert_reqs=maybe")
    fresh = App("fresh", set_as_current=False)

    for _ in range(2):  # Celery would take the second for configured
        with pytest.raises(SettingsError, match="^LOWTIDE_REDIS_URL: ssl_cert_reqs"):
            fresh.send_task("lowtide.infer", [{}])
        with pytest.raises(SettingsError, match="^LOWTIDE_REDIS_URL: ssl_cert_reqs"):
            fresh.connection_for_write()
    monkeypatch.setenv("LOWTIDE_REDIS_URL", "redis://h:1/0")
    assert fresh.conf.broker_url == "redis://h:1/0"


def test_all_threads_have_one_result_backend_and_one_pool_of_senders_by_the_settings_given_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fresh = App("fresh", set_as_current=False)
    monkeypatch.setattr("lowtide.tasks.app.app", fresh)
    for port in (1, 2):
        configure(load_settings(redis_url=f"redis://h:{port}/0"))
        with ThreadPoolExecutor(16) as pool:
            shared = set(pool.map(lambda _: (id(fresh.backend), id(fresh.producer_pool)), range(16)))
        assert shared == {(id(fresh.backend), id(fresh.producer_pool))}
        assert fresh.backend.connparams["port"] == port


def test_variables_of_celerys_that_an_application_has_send_nothing_of_ours_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        monkeypatch.setenv(name, "amqp://rabbit")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "rpc://")
    monkeypatch.setenv("CELERY_LOADER", "default")
    monkeypatch.setenv("CELERY_CONFIG_MODULE", "theirs")
    tmp_path.joinpath("theirs.py").write_text("task_always_eager, broker_read_url = True, 'amqp://rabbit'")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LOWTIDE_REDIS_URL", "redis://h:1/0")

    fresh = App("fresh", set_as_current=False)
    assert isinstance(fresh.backend, RedisBackend)
    assert fresh.backend.connparams["host"] == "h"
    for connection in (fresh.connection_for_write(), fresh.connection_for_read(), fresh.connection()):
        assert (connection.info()["transport"], connection.hostname, connection.port) == ("redis", "h", 1)
    assert not fresh.conf.task_always_eager
    fresh.conf.update(broker_url="redis://h:2/0")
    assert fresh.connection_for_write().port == 2


def test_whatever_goes_wrong_with_settings_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise KeyError("odd")

    monkeypatch.setattr("lowtide.tasks.app.load_settings", fail)
    with pytest.raises(SettingsError, match="settings can't be read: KeyError: 'odd'"):
        _ = App("fresh", set_as_current=False).conf.broker_url
