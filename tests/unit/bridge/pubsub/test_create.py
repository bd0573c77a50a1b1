import random
from itertools import pairwise
from typing import Any

import grpc
import pytest
from google.api_core.exceptions import ServiceUnavailable
from google.api_core.gapic_v1.method import wrap_method

from lowtide.bridge.pubsub import create
from lowtide.bridge.pubsub.client import PubsubUnavailable


class Away(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "away"


def test_all_tries_of_a_call_have_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed_s: list[float] = []

    def get_topic(request: object, *, timeout: float, **_: Any) -> None:
        allowed_s.append(timeout)
        raise ServiceUnavailable("away", errors=(Away(),))

    monkeypatch.setattr(create, "CALL_S", 1.2)
    monkeypatch.setattr(random, "uniform", lambda least, most: 0.1)  # from one try to the next
    with pytest.raises(PubsubUnavailable, match="away"):
        create._call(wrap_method(get_topic), {"topic": "t"})

    assert len(allowed_s) > 1
    assert allowed_s[0] <= 1.2
    assert all(after_s < before_s for before_s, after_s in pairwise(allowed_s))
