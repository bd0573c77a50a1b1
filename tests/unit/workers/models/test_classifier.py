from typing import Any

import pytest
import torch

from lowtide.tasks.errors import InvalidRequest
from lowtide.workers.models.classifier import Classifier


class Colours(Classifier):
    categories = ("red", "green", "blue")

    def load(self, device: torch.device) -> None: ...

    def decode(self, content: bytes, params: Any) -> torch.Tensor:
        return torch.zeros(1)

    def predict(self, batch: torch.Tensor) -> torch.Tensor:
        return batch


SCORES = torch.tensor([0.2, 0.1234567, 0.7])


def test_the_best_come_first_with_index_label_and_score() -> None:
    assert Colours("colours").encode(SCORES, {"top_k": 2}) == [
        {"index": 2, "label": "blue", "score": 0.7},
        {"index": 0, "label": "red", "score": 0.2},
    ]


def test_the_default_is_no_more_than_there_are() -> None:
    outputs = Colours("colours").encode(SCORES, {})
    assert [output["label"] for output in outputs] == ["blue", "red", "green"]
    assert outputs[2]["score"] == 0.123457


def test_half_precision_scores_are_encoded_too() -> None:
    assert Colours("colours").encode(SCORES.half(), {"top_k": 1})[0]["label"] == "blue"


def test_a_top_k_that_is_null_is_absent() -> None:
    assert Colours("colours").top_k({"top_k": None}) == Colours("colours").top_k({})


@pytest.mark.parametrize("name", ["topk", "Top_K", "topK", "top-k", " top_k "])
def test_another_spelling_of_top_k_is_refused_and_not_passed_over(name: str) -> None:
    with pytest.raises(InvalidRequest, match="is top_k meant") as caught:
        Colours("colours").top_k({name: 1})
    assert caught.value.field == f"params.{name}"
    assert Colours("colours").top_k({name: None, "other": 1}) == 3


@pytest.mark.parametrize("top_k", [0, 4, -1, 1.0, "2", True, [1], "9" * 1000])
def test_a_top_k_that_is_no_good_is_refused_by_name(top_k: Any) -> None:
    with pytest.raises(InvalidRequest, match="a whole number from 1 to 3") as caught:
        Colours("colours").top_k({"top_k": top_k})
    assert caught.value.field == "params.top_k"
    assert len(str(caught.value)) < 100
