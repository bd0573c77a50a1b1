"""Runs batches of a device's models, and tells the outputs apart by item."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lowtide.workers.device import devices
from lowtide.workers.device.outputs import Outputs, WrongOutputs, ambiguous, described, form, outputs_of
from lowtide.workers.model import Model

PROBED = (1, 2, 3)
"""Sizes of the batches of a probe: an output whose size is not the batch's fits one of them, at most two by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormSeen:
    """The form of a model's outputs, and in words what came."""

    form: object
    words: str


class Runner:
    """The models of one device. Use from one thread.

    One look at a batch does not always show whose outputs are whose: a tuple of ten may be ten heads of ten items, or
    one output for each of ten, and a tensor of ten rows the one answer of a model that mixes up its batch. A batch of
    one does show it, and nobody else's output is in it. So the first item of a model runs alone, and from then on
    every batch has to have that form.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seen: dict[str, FormSeen] = {}
        self._doubted: set[str] = set()

    def run(self, model: Model, items: Sequence[torch.Tensor]) -> Outputs:
        """An output for every item, in order. Raises WrongOutputs, and whatever `predict` raises."""
        try:
            return self._run(model, items) if model.name in self._seen else self._run_first(model, items)
        except WrongOutputs:
            # One odd request must not fail all that follow: the next batch may show another form. A model that is
            # wrong for some sizes alone shall be wrong for one as well.
            self._seen.pop(model.name, None)
            self._doubted.add(model.name)
            raise

    def probe(self, model: Model) -> None:
        """Run batches of the model's example, if it has one. Raises WrongOutputs, and whatever the model raises."""
        item = model.example()
        if item is None:
            return
        if not isinstance(item, torch.Tensor):
            raise TypeError(f"model {model.name}: example gave a {type(item).__name__}, not an item as decode gives it")
        with torch.inference_mode():
            for n in PROBED:
                if not self._fits(model, [item] * n):
                    return

    def _run_first(self, model: Model, items: Sequence[torch.Tensor]) -> Outputs:
        given = self._predicted(model, items[:1])
        outputs = self._told_apart(model, given, 1)
        if ambiguous(given) or model.name in self._doubted:
            self._fits(model, [items[0], items[0]])
        self._doubted.discard(model.name)
        if len(items) == 2:  # the other one alone would show nothing more
            return self._run(model, items)
        return outputs + self._run(model, items[1:]) if len(items) > 1 else outputs

    def _fits(self, model: Model, items: Sequence[torch.Tensor]) -> bool:
        """Look at a batch that nobody waits for. False when it is too large for the device, which says nothing."""
        try:
            self._run(model, items)
        except Exception as error:
            if not devices.out_of_memory(error):
                raise
            devices.free_memory(self._device)
            return False
        return True

    def _run(self, model: Model, items: Sequence[torch.Tensor]) -> Outputs:
        return self._told_apart(model, self._predicted(model, items), len(items))

    def _predicted(self, model: Model, items: Sequence[torch.Tensor]) -> object:
        return model.predict(devices.to_device(items, self._device))

    def _told_apart(self, model: Model, given: object, n: int) -> Outputs:
        seen = self._seen.get(model.name)
        try:
            outputs = outputs_of(given, n)
            if seen is not None and form(given) != seen.form:
                raise WrongOutputs(f"it gave {seen.words} before, and the form must not depend on the batch")
        except WrongOutputs as error:
            came = f"predict gave {described(given)} for {n} {'item' if n == 1 else 'items'}"
            raise WrongOutputs(f"model {model.name}: {came}: {error}") from error
        if seen is None:
            self._seen[model.name] = FormSeen(form=form(given), words=described(given))
        return outputs
