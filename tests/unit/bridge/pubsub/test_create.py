import random
from itertools import pairwise
from typing import Any

import grpc
import pytest
from google.api_core.exceptions import NotFound, ServiceUnavailable
from google.api_core.gapic_v1.method import wrap_method

from lowtide.bridge.pubsub import create
from lowtide.bridge.pubsub.client import PubsubRefused


class Away(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "away"


class Gone(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.NOT_FOUND

    def details(self) -> str:
        return "gone"


def test_all_tries_of_a_call_have_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed_s: list[float] = []

    def get_topic(request: object, *, timeout: float, **_: Any) -> None:
        allowed_s.append(timeout)
        if len(allowed_s) == 3:
            raise NotFound("gone", errors=(Gone(),))
        raise ServiceUnavailable("away", errors=(Away(),))

    monkeypatch.setattr(create, "CALL_S", 60.0)
    monkeypatch.setattr(random, "uniform", lambda least, most: 0.1)  # from one try to the next
    with pytest.raises(PubsubRefused, match="gone"):
        create._call(wrap_method(get_topic), {"topic": "t"})

    assert len(allowed_s) == 3
    assert allowed_s[0] <= 60.0
    assert all(after_s < before_s for before_s, after_s in pairwise(allowed_s))
