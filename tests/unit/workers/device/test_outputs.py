from collections import OrderedDict, UserDict, deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from lowtide.workers.device.outputs import WrongOutputs, ambiguous, described, form, outputs_of

SCORES = torch.arange(6.0).view(3, 2)
MEANS = torch.tensor([7.0, 8.0, 9.0])


class Pair(NamedTuple):
    scores: Any
    mean: Any


class ModelOutput(OrderedDict):
    """As Hugging Face's: a mapping with attributes."""


@dataclass
class Record:
    scores: torch.Tensor


def rows(given, n=3):
    return [plain(item) for item in outputs_of(given, n).items]


def plain(value):
    """The same with lists for tensors."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if hasattr(value, "_make"):
        return value._make(map(plain, value))
    return type(value)(map(plain, value))


@pytest.mark.parametrize(
    ("given", "second"),
    [
        (SCORES, [2.0, 3.0]),
        (MEANS, 8.0),
        ([*SCORES], [2.0, 3.0]),
        ([torch.zeros(1, 4), torch.ones(0, 4), torch.zeros(5, 4)], []),
        ([{"boxes": SCORES, "labels": MEANS}, {"boxes": SCORES[:1], "labels": MEANS[:1]}, {}],
         {"boxes": [[0.0, 1.0]], "labels": [7.0]}),
        ([[SCORES], [SCORES[0], MEANS], []], [[0.0, 1.0], [7.0, 8.0, 9.0]]),
        ((SCORES, MEANS), ([2.0, 3.0], 8.0)),
        ((SCORES,), ([2.0, 3.0],)),
        (Pair(SCORES, MEANS), Pair([2.0, 3.0], 8.0)),
        ({"scores": SCORES, "mean": MEANS}, {"scores": [2.0, 3.0], "mean": 8.0}),
        (ModelOutput(scores=SCORES), {"scores": [2.0, 3.0]}),
        (UserDict(scores=SCORES), {"scores": [2.0, 3.0]}),
        ({"logits": SCORES, "states": (MEANS, SCORES)}, {"logits": [2.0, 3.0], "states": (8.0, [2.0, 3.0])}),
    ],
)  # fmt: skip
def test_every_item_gets_its_own_row_in_the_form_of_what_the_model_gave(given: object, second: object) -> None:
    items = rows(given)
    assert len(items) == 3
    assert items[1] == second
    assert type(items[1]) is type(second)


def test_what_topk_returns_keeps_its_names() -> None:
    best = outputs_of(SCORES.topk(1), 3).items[2]
    assert (best.values.tolist(), best.indices.tolist()) == ([5.0], [1])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (torch.tensor(1.0), "the first dimension of a tensor is the batch"),
        (SCORES[:2], "the first dimension of a tensor is the batch"),
        (SCORES.T, "the first dimension of a tensor is the batch"),
        ([SCORES, MEANS], "one output per item; several heads are a tuple or a dict"),
        ([SCORES, MEANS, None], "None is in it"),
        ([*SCORES[:2], 1.0], "a float is in it"),
        ([], "one output per item"),
        ((SCORES, MEANS[:2]), "every tensor of a tuple or dict has the batch first, 1 has not"),
        ((SCORES[0], SCORES[1], SCORES[2]), r"0 has not \(one output per item is a list\)"),
        (tuple(MEANS), "0 has not"),
        (Pair(SCORES, MEANS.sum()), "mean has not"),
        ({"logits": SCORES, "loss": torch.tensor(0.3)}, "loss has not"),
        ({"logits": SCORES, "loss": None}, "loss is None"),
        ({"logits": SCORES, "states": (MEANS, SCORES[0])}, r"states\.1 has not"),
        ({"boxes": [SCORES, SCORES, SCORES]}, "boxes is a list"),
        ((), "expected a tensor with the batch first"),
        ({}, "expected a tensor with the batch first"),
        (({}, ()), "expected a tensor with the batch first"),
        (None, "a list of one output per item"),
        ("abc", "expected a tensor"),
        (SCORES.numpy(), "expected a tensor"),
        ((SCORES, np.zeros(3)), "1 is a ndarray"),
        ((row for row in SCORES), "expected a tensor"),
        (deque(SCORES), "expected a tensor"),
        (Record(SCORES), "expected a tensor"),
        (SCORES.to_sparse(), "a tensor of layout torch.sparse_coo has no rows to hand out"),
        ([*SCORES[:2], SCORES[2].to_sparse()], "layout torch.sparse_coo"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_apart_by_item_is_refused_with_what_is_wrong(given: object, why: str) -> None:
    with pytest.raises(WrongOutputs, match=why):
        outputs_of(given, 3)


def test_a_nested_tensor_is_refused() -> None:
    """Made here, since torch imports its compiler for it: else every process that collects tests would."""
    with pytest.raises(WrongOutputs, match="a nested tensor"):
        outputs_of(torch.nested.nested_tensor([*SCORES], layout=torch.jagged), 3)


@pytest.mark.parametrize("wrap", [lambda t: t, list, lambda t: (t, t), lambda t: {"a": t, "b": (t.sum(1),)},
                                  lambda t: [{"a": (row,)} for row in t]])  # fmt: skip
def test_outputs_that_are_not_finite_are_found_in_every_form(wrap: Any) -> None:
    outputs = torch.tensor([[1.0, 2.0], [float("nan"), 1.0], [1.0, float("inf")]])
    assert outputs_of(wrap(outputs), 3).not_finite == {1, 2}
    assert outputs_of(wrap(torch.zeros((3, 2))), 3).not_finite == frozenset()


def test_a_head_that_is_not_finite_fails_the_items_of_all_heads() -> None:
    assert outputs_of((SCORES, torch.tensor([1, 2, 3]), torch.tensor([0.0, 1.0, float("nan")])), 3).not_finite == {2}


@pytest.mark.parametrize("wrap", [lambda t: t, list, lambda t: (t, t), lambda t: {"a": t}])
def test_a_model_that_uses_its_memory_again_changes_no_output_that_it_gave(wrap: Any) -> None:
    memory = SCORES.clone()
    items = outputs_of(wrap(memory), 3).items
    before = str(list(items))
    memory.zero_()
    assert str(list(items)) == before


def test_forms_tell_kinds_and_heads_apart_and_no_sizes() -> None:
    forms = [
        form(SCORES),
        form([SCORES]),
        form((SCORES,)),
        form((SCORES, SCORES)),
        form(Pair(SCORES, SCORES)),
        form({"a": SCORES}),
        form({"b": SCORES}),
        form({"a": (SCORES,)}),
        form(None),
    ]
    assert len(set(forms)) == len(forms)
    assert form([SCORES]) == form([MEANS, MEANS])
    assert form({"a": SCORES, "b": MEANS}) == form({"b": SCORES, "a": MEANS})


def test_of_one_item_a_list_or_tuple_of_one_is_ambiguous() -> None:
    row = SCORES[:1]
    assert all(ambiguous(given) for given in ([row], (row,), ((row,), row)))
    assert not any(ambiguous(given) for given in (row, [SCORES], [row[0].sum()], (row, row), [row, row], {"a": row}))


def test_what_came_is_described_in_few_words() -> None:
    assert described(SCORES) == "a tensor of shape (3, 2)"
    assert described((SCORES, None)) == "a tuple of 2: (3, 2), None"
    assert described(Pair(SCORES, "x")) == "a Pair of 2: scores (3, 2), mean a str"
    assert described(ModelOutput(loss=MEANS.sum())) == "a ModelOutput of 1: loss ()"
    assert described([MEANS] * 500) == "a list of 500: (3,), (3,), (3,), (3,), …"
    assert described([]) == "a list of 0"
    assert described(OrderedDict(a=[1])) == "an OrderedDict of 1: a a list"
    assert described(None) == "None"
    assert described(1.0) == "a float"
