from itertools import product

import pytest
import torch

from lowtide.workers.device.outputs import WrongOutputs
from lowtide.workers.device.runner import Runner

CPU = torch.device("cpu")


class Predicts:
    """Predicts what the test says; remembers the sizes of its batches."""

    name = "net"

    def __init__(self, predict, example=None):
        self._predict = predict
        self._example = example
        self.batches = []

    def predict(self, batch):
        self.batches.append(len(batch))
        return self._predict(batch)

    def example(self):
        return self._example


def items(n, *, start=0):
    """Of three numbers, of which the first is the item's own."""
    return [torch.tensor([float(start + i), 1.0, 2.0]) for i in range(n)]


def heads(*functions):
    return lambda batch: tuple(function(batch) for function in functions)


RIGHT = {
    "tensor": lambda batch: batch[:, 0],
    "list": lambda batch: list(batch[:, 0]),
    "list of rows that keep a batch": lambda batch: list(batch[:, :1].split(1)),
    "list of as many numbers as there are items": lambda batch: [row[:1].expand(len(batch)) for row in batch],
    "tuple of one": heads(lambda batch: batch[:, 0]),
    "tuple of two": heads(lambda batch: batch[:, 0], lambda batch: batch[:, 1:]),
    "tuple of three": heads(lambda batch: batch[:, 0], lambda batch: batch, lambda batch: batch.sum(1)),
    "dict": lambda batch: {"first": batch[:, 0], "all": batch},
    "dicts": lambda batch: [{"first": row[0], "all": row} for row in batch],
}

WRONG = {
    "no batch": lambda batch: batch.mean(0),
    "the batch is flattened": lambda batch: batch.flatten(),
    "a sum over all": lambda batch: batch.sum(),
    "the first item for all": lambda batch: batch[:1],
    "the batch last": lambda batch: batch.T,
    "one is lacking": lambda batch: batch[1:],
    "one too many": lambda batch: torch.cat([batch, batch[:1]]),
    "squeezed": lambda batch: batch[:, :2].squeeze(0),
    "tuple of items": lambda batch: tuple(batch),
    "tuple of items of one number": lambda batch: tuple(batch[:, :1]),
    "tuple of items of as many numbers as there are items": lambda batch: tuple(
        row[:1].expand(len(batch)) for row in batch
    ),
    "tuple of items that keep a batch": lambda batch: batch.split(1),
    "tuple of numbers": lambda batch: tuple(batch[:, 0]),
    "list of one head": lambda batch: [batch],
    "list of two heads": lambda batch: [batch, batch[:, 0]],
    "list of three heads": lambda batch: [batch, batch[:, 0], batch],
    "list of two halves": lambda batch: list(batch.chunk(2)),
    "two halves": lambda batch: batch.chunk(2),
    "tuple with a loss": heads(lambda batch: batch, lambda batch: batch.sum()),
    "dict by index": lambda batch: dict(enumerate(batch)),
    "dict by index of one number": lambda batch: dict(enumerate(batch[:, :1])),
    "dict with a loss": lambda batch: {"scores": batch, "loss": batch.sum()},
    "dict of lists": lambda batch: {"boxes": list(batch)},
    "a number": lambda batch: 1.0,
    "nothing": lambda batch: None,
    "a generator": lambda batch: (row for row in batch),
}


def first(output):
    while not isinstance(output, torch.Tensor):
        output = next(iter(output.values() if isinstance(output, dict) else output))
    return output.flatten()[0].item()


@pytest.mark.parametrize("form", RIGHT)
def test_every_item_gets_what_is_its_own_in_batches_of_all_sizes(form: str) -> None:
    for sizes in ((1, 2, 3, 64), (64, 3, 2, 1), (2, 2), (3, 3)):
        runner, model = Runner(CPU), Predicts(RIGHT[form])
        for n in sizes:
            outputs = runner.run(model, items(n, start=100))
            assert [first(output) for output in outputs.items] == [100 + i for i in range(n)]


RIGHT_FOR_ONE = ("the first item for all", "dict by index of one number", "list of two halves")
"""Without an example: that one gets what is its own, and nobody else is there."""


def wrong_at(sizes):
    for form, n in product(WRONG, sizes):
        right = (n == 1 and form in RIGHT_FOR_ONE) or (n <= 3 and form == "list of two halves")
        if not right:
            yield form, n


@pytest.mark.parametrize(("form", "n"), list(wrong_at([1, 2, 3, 4, 9, 64])))
def test_outputs_that_are_not_one_per_item_are_an_error_that_says_what_came(form: str, n: int) -> None:
    runner, model = Runner(CPU), Predicts(WRONG[form])
    for _ in range(3):
        with pytest.raises(WrongOutputs, match=r"model net: predict gave .* for \d+ items?: "):
            runner.run(model, items(n))


@pytest.mark.parametrize("form", RIGHT_FOR_ONE)
def test_what_is_right_for_few_items_alone_gives_each_its_own(form: str) -> None:
    runner, model = Runner(CPU), Predicts(WRONG[form])
    assert [first(output) for output in runner.run(model, items(1, start=100)).items] == [100]
    with pytest.raises(WrongOutputs):
        runner.run(model, items(3))


@pytest.mark.parametrize("form", RIGHT_FOR_ONE[:2])
def test_what_has_been_wrong_for_several_is_an_error_for_one_as_well(form: str) -> None:
    runner, model = Runner(CPU), Predicts(WRONG[form])
    for n in (3, 1, 1):
        with pytest.raises(WrongOutputs):
            runner.run(model, items(n))


@pytest.mark.parametrize("form", WRONG)
def test_an_example_shows_at_load_that_outputs_are_wrong(form: str) -> None:
    with pytest.raises(WrongOutputs, match=r"model net: predict gave "):
        Runner(CPU).probe(Predicts(WRONG[form], example=items(1)[0]))


@pytest.mark.parametrize("form", RIGHT)
def test_an_example_shows_that_outputs_are_right_and_then_the_first_batch_runs_whole(form: str) -> None:
    runner, model = Runner(CPU), Predicts(RIGHT[form], example=items(1)[0])
    runner.probe(model)
    runner.run(model, items(7))
    assert model.batches == [1, 2, 3, 7]


def test_without_an_example_the_first_item_runs_alone_and_nothing_runs_twice() -> None:
    runner, model = Runner(CPU), Predicts(RIGHT["tuple of two"])
    runner.probe(model)
    for n in (5, 5, 2):
        runner.run(model, items(n))
    assert model.batches == [1, 4, 5, 2]


def test_of_two_models_each_has_a_form_of_its_own() -> None:
    runner, tensor, pair = Runner(CPU), Predicts(RIGHT["tensor"]), Predicts(RIGHT["tuple of two"])
    pair.name = "pair"
    for model in (tensor, pair, tensor, pair):
        assert len(runner.run(model, items(2)).items) == 2


def test_a_request_that_changes_the_form_fails_its_batch_and_none_that_follows() -> None:
    runner = Runner(CPU)
    model = Predicts(lambda batch: (batch, batch) if 13 in batch[:, 0] else batch)
    runner.run(model, items(3))
    with pytest.raises(WrongOutputs, match="it gave a tensor of shape .* before, and the form must not depend on"):
        runner.run(model, items(3, start=12))
    assert len(runner.run(model, items(3)).items) == 3


def test_a_model_of_which_two_do_not_fit_answers_one() -> None:
    def predict(batch):
        if len(batch) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (batch,)

    runner, model = Runner(CPU), Predicts(predict, example=items(1)[0])
    runner.probe(model)
    assert len(Runner(CPU).run(model, items(1)).items) == 1


def test_an_example_that_is_no_item_is_named() -> None:
    with pytest.raises(TypeError, match="model net: example gave a bytes, not an item"):
        Runner(CPU).probe(Predicts(RIGHT["tensor"], example=b"\x89PNG"))
