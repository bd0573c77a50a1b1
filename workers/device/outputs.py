"""Outputs: what a model's `predict` gave, told apart by item. Pure.

A tensor has the batch first, a list has one member per item. A tuple, a NamedTuple or a mapping of tensors is several
*heads*, each with the batch first: every item gets its row of each, in a tuple, that NamedTuple, or a dict. Heads may
be nested.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lowtide.tasks.errors import LowtideError

EXPECTED = (
    "expected a tensor with the batch first, a list of one output per item, or a tuple, NamedTuple or dict of tensors, "
    "each with the batch first"
)
TOLD = 4
"""So many members of a list, tuple or dict are described in a message."""


class WrongOutputs(LowtideError):
    """Raised when it can't be told which output of a model is which item's."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outputs:
    """One output per item, in order, on the CPU; `not_finite`: which of them have a NaN or an infinity in them."""

    items: Sequence[Any] | torch.Tensor
    not_finite: frozenset[int]

    def __add__(self, others: "Outputs") -> "Outputs":
        shifted = frozenset(len(self.items) + index for index in others.not_finite)
        return Outputs(items=[*self.items, *others.items], not_finite=self.not_finite | shifted)


def outputs_of(given: object, n: int) -> Outputs:
    """What `predict` gave for `n` items. Waits for the device, so its late errors appear here. Raises WrongOutputs that
    says what is wrong with the form of `given`, without saying what came.
    """
    if isinstance(given, torch.Tensor):
        if not _has_batch(given, n):
            raise WrongOutputs("the first dimension of a tensor is the batch")
        items = _to_cpu(given)
        return Outputs(items=items, not_finite=_rows_not_finite(items))
    if isinstance(given, list):
        return _one_by_one(given, n)
    if isinstance(given, tuple | Mapping):
        return _rows_of_heads(given, n)
    raise WrongOutputs(EXPECTED)


def form(given: object) -> object:
    """Two batches of one model have equal forms: the same kind, and the same heads. Hashable."""
    if isinstance(given, torch.Tensor):
        return torch.Tensor
    if isinstance(given, tuple):
        return type(given), *map(form, given)
    if isinstance(given, Mapping):
        return frozenset((name, form(head)) for name, head in given.items())
    return type(given)


def ambiguous(given: object) -> bool:
    """True when what was given for *one* item may well be something else: in a list or tuple of one nobody sees whether
    it is the one item's or the only head.
    """
    if isinstance(given, list):
        return len(given) == 1 and isinstance(given[0], torch.Tensor) and _has_batch(given[0], 1)
    return isinstance(given, tuple) and (len(given) == 1 or any(map(ambiguous, given)))


def described(given: object) -> str:
    """For people: `a tuple of 2: (64, 10), (64,)`."""
    match given:
        case torch.Tensor():
            return f"a tensor of shape {_brief(given)}"
        case Mapping():
            members = [f"{name} {_brief(head)}" for name, head in given.items()]
        case tuple() if hasattr(given, "_fields"):
            members = [f"{name} {_brief(head)}" for name, head in zip(given._fields, given, strict=True)]
        case list() | tuple():
            members = [_brief(member) for member in given[: TOLD + 1]]
        case _:
            return _kind(given)
    more = ", …" if len(members) > TOLD else ""
    which = f": {', '.join(members[:TOLD])}{more}" if members else ""
    return f"{_kind(given)} of {len(given)}{which}"


def _one_by_one(given: list[Any], n: int) -> Outputs:
    if len(given) != n:
        raise WrongOutputs("a list has one output per item; several heads are a tuple or a dict")
    items = [_mapped(output, _to_cpu) for output in given]
    wrong = frozenset(index for index, output in enumerate(items) if not all(map(_finite, _tensors(output))))
    return Outputs(items=items, not_finite=wrong)


def _rows_of_heads(given: tuple[Any, ...] | Mapping[Any, Any], n: int) -> Outputs:
    heads = list(_heads(given))
    if not heads:
        raise WrongOutputs(EXPECTED)
    for name, head in heads:
        if not isinstance(head, torch.Tensor):
            raise WrongOutputs(
                f"a tuple or dict consists of tensors, each with the batch first; {name} is {_kind(head)}"
            )
        if not _has_batch(head, n):
            raise WrongOutputs(
                f"every tensor of a tuple or dict has the batch first, {name} has not (one output per item is a list)"
            )
    on_cpu = _mapped(given, _to_cpu)
    wrong = frozenset[int]().union(*(_rows_not_finite(head) for head in _tensors(on_cpu)))
    return Outputs(items=_rows(on_cpu), not_finite=wrong)


def _heads(given: tuple[Any, ...] | Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, object]]:
    """Name and value of every head, those of nested ones as `0.logits`."""
    names: Sequence[Any] = getattr(given, "_fields", range(len(given)))
    for name, head in given.items() if isinstance(given, Mapping) else zip(names, given, strict=True):
        if isinstance(head, tuple | Mapping):
            yield from _heads(head, f"{path}{name}.")
        else:
            yield f"{path}{name}", head


def _rows(heads: Any) -> list[Any]:
    """Each item's row of every head, in the form of the heads."""
    if isinstance(heads, torch.Tensor):
        return list(heads)
    if isinstance(heads, dict):
        return [dict(zip(heads, row, strict=True)) for row in zip(*map(_rows, heads.values()), strict=True)]
    return [_like(heads, row) for row in zip(*map(_rows, heads), strict=True)]


def _mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same structure, of changed tensors. Raises WrongOutputs for what is in it and is no tensor."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _mapped(part, change) for name, part in value.items()}
    if isinstance(value, tuple):
        return _like(value, [_mapped(part, change) for part in value])
    if isinstance(value, list):
        return [_mapped(part, change) for part in value]
    raise WrongOutputs(f"an output consists of tensors, and {_kind(value)} is in it")


def _like(model: tuple[Any, ...], members: Sequence[Any]) -> tuple[Any, ...]:
    """The members as a NamedTuple or a return type of torch's (that of `topk`, say), if `model` is one."""
    if hasattr(model, "_make"):
        made: tuple[Any, ...] = model._make(members)
        return made
    return type(model)(members) if hasattr(model, "n_sequence_fields") else tuple(members)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    else:
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def _to_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """A copy, also of what is on the CPU: a model may use its output's memory again for the next batch."""
    if not _dense(tensor):
        raise WrongOutputs(f"{_kind(tensor)} has no rows to hand out: give a dense one")
    return tensor.to("cpu", copy=True)


def _has_batch(tensor: torch.Tensor, n: int) -> bool:
    return not _dense(tensor) or (tensor.dim() > 0 and tensor.shape[0] == n)


def _dense(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_nested


def _rows_not_finite(tensor: torch.Tensor) -> frozenset[int]:
    if _finite(tensor):  # as a rule: one look for the whole batch
        return frozenset()
    return frozenset(index for index, row in enumerate(tensor) if not _finite(row))


def _finite(tensor: torch.Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _brief(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, torch.Tensor) and _dense(value) else _kind(value)


def _kind(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, torch.Tensor) and not _dense(value):
        return "a nested tensor" if value.is_nested else f"a tensor of layout {value.layout}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
