import pytest

from lowtide.tasks.errors import not_served


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("resnet-101", "resnet-101"),
        ("org/net:v1.2", "org/net:v1.2"),
        ("digits ", '"digits "'),
        ("di\u0261its", '"di\\u0261its"'),
        ("", '""'),
    ],
)
def test_a_model_that_is_not_served_is_quoted_when_its_name_would_look_right(model: str, said: str) -> None:
    assert not_served(model, ["digits"]) == f"{said} is not served here; served are digits"
