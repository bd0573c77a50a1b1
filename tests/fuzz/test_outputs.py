"""Models of every form, right or wrong: an item's output is its own, or all of the batch get an error."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from lowtide.workers.device.outputs import WrongOutputs
from lowtide.workers.device.runner import Runner

WIDTH = 4

mixes = st.sampled_from(
    [
        lambda batch: batch,
        lambda batch: batch[:, :1],
        lambda batch: batch[:, 0],
        lambda batch: batch[:, None],
        lambda batch: batch.mean(0),
        lambda batch: batch.flatten(),
        lambda batch: batch.squeeze(),
        lambda batch: batch[:1],
        lambda batch: batch[:-1],
        lambda batch: batch.T,
        lambda batch: batch.sum(),
    ]
)
"""What a network may make of its batch: of items whose numbers are all the item's own."""

structures = st.sampled_from(
    [
        lambda parts, batch: parts[0],
        lambda parts, batch: tuple(parts),
        lambda parts, batch: list(parts),
        lambda parts, batch: dict(enumerate(parts)),
        lambda parts, batch: {"nested": tuple(parts), "other": parts[0]},
        lambda parts, batch: list(parts[0].unbind()),
        lambda parts, batch: tuple(parts[0].unbind()),
        lambda parts, batch: dict(enumerate(parts[0].unbind())),
        lambda parts, batch: list(parts[0].split(1)),
        lambda parts, batch: batch.chunk(len(parts)),
        lambda parts, batch: [{"a": row} for row in parts[0]],
    ]
)


class Net:
    name = "net"

    def __init__(self, functions, structure):
        self._functions = functions
        self._structure = structure

    def predict(self, batch):
        return self._structure([function(batch) for function in self._functions], batch)


def numbers(output):
    if isinstance(output, torch.Tensor):
        return set(output.flatten().tolist())
    return set().union(*map(numbers, output.values() if isinstance(output, dict) else output))


@given(
    functions=st.lists(mixes, min_size=1, max_size=WIDTH),
    structure=structures,
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5),
)
def test_nobody_gets_what_is_another_items(functions, structure, sizes) -> None:
    runner, net = Runner(torch.device("cpu")), Net(functions, structure)
    for n in sizes:
        items = [torch.full((WIDTH,), float(i)) for i in range(n)]
        try:
            outputs = runner.run(net, items).items
        except (WrongOutputs, TypeError, RuntimeError, IndexError):  # a scalar can't be split
            continue
        assert len(outputs) == n
        assert all(numbers(output) <= {float(i)} for i, output in enumerate(outputs))
