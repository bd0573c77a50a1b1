from types import SimpleNamespace

import pytest

from lowtide.config import SettingsError, load_settings
from lowtide.config.flower import ARGUMENTS_SHOWN, flower_arguments, forget_services, format_task


@pytest.mark.parametrize("address", ["0.0.0.0", "10.0.0.7", "::", "flower.example.org"])
def test_flower_is_not_opened_to_the_network_without_a_login(address: str) -> None:
    with pytest.raises(SettingsError, match="LOWTIDE_FLOWER_BASIC_AUTH"):
        flower_arguments(load_settings(flower_address=address))

    flower_arguments(load_settings(flower_address=address, flower_basic_auth="u:p"))
    with pytest.raises(SettingsError, match="LOWTIDE_FLOWER_BASIC_AUTH: .*an empty password"):
        flower_arguments(load_settings(flower_address=address, flower_basic_auth=("u:p", "v:")))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
def test_flower_on_loopback_needs_no_login_and_may_only_look(address: str) -> None:
    arguments = flower_arguments(load_settings(flower_address=address))

    assert "--read_only" in arguments
    assert flower_arguments(load_settings(flower_address=address, flower_basic_auth=("u:",))) == arguments
    assert "--read_only" not in flower_arguments(load_settings(flower_address=address, flower_read_only="false"))


def test_what_a_task_is_and_what_became_of_it_come_first_in_flowers_list_and_the_long_id_last() -> None:
    (columns,) = (each for each in flower_arguments(load_settings()) if each.startswith("--tasks_columns="))
    first, *others = columns.partition("=")[2].split(",")

    assert (first, others[:2], others[-1]) == ("name", ["args", "result"], "uuid")


def test_a_task_is_shown_without_its_content() -> None:
    stock = format_task(SimpleNamespace(args="({'model': 'digits', 'data': '" + "iVBORw0KGgo" * 50 + "'},)"))

    assert stock.args == "({'model': 'digits', 'data': '…'},)"
    assert format_task(SimpleNamespace(args="digits × 64")).args == "digits × 64"
    signed = format_task(SimpleNamespace(args="({'uri': 'https://h/a.jpg?sig=hunter2'},)"))
    assert signed.args == "({'uri': 'https://h/a.jpg?…'},)"
    assert len(format_task(SimpleNamespace(args="x" * 999)).args) == ARGUMENTS_SHOWN + 1


def test_a_service_called_flower_is_not_taken_for_flowers_own_variable() -> None:
    environ = {"FLOWER_PORT": "tcp://10.0.0.7:5555", "FLOWER_PORT_5555_TCP": "tcp://10.0.0.7:5555", "FLOWER_DB": "f.db"}
    forget_services(environ)

    assert environ == {"FLOWER_DB": "f.db"}
