"""State dicts: found in what a file holds, and brought under the names of a module. Pure."""

import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias, TypeGuard

import torch

from lowtide.tasks.errors import LowtideError
from lowtide.workers.models.file_kind import SAVE

StateDict: TypeAlias = Mapping[str, torch.Tensor]

ENTRIES = ("state_dict", "model_state_dict", "model", "model_state", "module", "net", "network", "weights", "params")
"""Where training code keeps the weights, in a checkpoint with more in it."""
AVERAGED = ("ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict", "params_ema")
"""Where it keeps their moving average. Taken when there are no others: which are better only its owner knows."""

COUNTER = "num_batches_tracked"
"""Batches that a normalisation saw in training: files older than PyTorch 0.4.1 lack it, predictions don't need it."""
AVERAGES_COUNTER = "n_averaged"
"""How many weights torch's AveragedModel has taken the mean of."""
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""What DataParallel, torch.compile, FSDP and activation checkpointing put before the names of what they wrap."""
LOSSES = frozenset({"criterion", "loss", "loss_fn", "loss_func", "loss_function"})
"""What a LightningModule calls its loss, whose weights of categories it saves beside the network."""

EMA = re.compile(r"(^|[_.])ema([_.]|$)", re.IGNORECASE)
"""In a name: a moving average."""

PART = re.compile(r"-\d+-of-\d+\.")
"""In the name of a file: one of several that hold a model together."""


class WeightsError(LowtideError):
    """Raised when weights can't be had, aren't weights, or are another model's. The message says which and where, and
    what to do.
    """


def state_dict_in(loaded: object, *, source: object) -> StateDict:
    """The state dict in what torch loaded: itself, or in a checkpoint the only one of ENTRIES, else of AVERAGED, else
    of all. Raises WeightsError.
    """
    found = _known(loaded, source)
    if found is None:
        parts = loaded if isinstance(loaded, Mapping) else {}
        found = _only({name: part for name, part in parts.items() if _is_state_dict(part)}, source)
    if found is None:
        raise WeightsError(f"{source} has no state dict, it is {_contents(loaded)}: {SAVE}")
    return found


def fitted(state: StateDict, module: torch.nn.Module, *, source: str) -> StateDict:
    """`state` under the names of `module`: what wrappers of the module put before all names, or into them, is taken
    off. Raises WeightsError unless names and shapes agree then.
    """
    wanted = module.state_dict()
    kind = type(module).__name__
    state = _renamed(state, wanted, source=source, kind=kind)
    _check(state, wanted, source=source, kind=kind)
    complete = OrderedDict(state)
    complete.update((name, value) for name, value in wanted.items() if name not in state)  # counters
    # The layers' versions: by name and shape these are today's. Some of torchvision's layers would rebuild themselves.
    complete._metadata = wanted._metadata  # type: ignore[attr-defined]
    return complete


def _known(loaded: object, source: object, depth: int = 3) -> StateDict | None:
    if _is_state_dict(loaded):
        return loaded
    if isinstance(loaded, Mapping) and depth:
        for names in (ENTRIES, AVERAGED):
            parts = {name: _known(loaded[name], source, depth - 1) for name in names if name in loaded}
            if found := {name: state for name, state in parts.items() if state is not None}:
                return _only(found, source)
    return None


def _only(found: Mapping[str, StateDict], source: object) -> StateDict | None:
    """One may stand under several names."""
    if len({id(state) for state in found.values()}) > 1:
        raise WeightsError(f"{source} holds several state dicts, {_few(found)}: save the one that is meant")
    return next(iter(found.values()), None)


def _is_state_dict(value: object) -> TypeGuard[StateDict]:
    """Names and tensors, not all of them whole numbers: those are the states of random generators."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        return False
    return all(map(torch.is_tensor, value.values())) and any(part.is_floating_point() for part in value.values())


def _contents(loaded: object) -> str:
    if not isinstance(loaded, Mapping):
        return f"a {type(loaded).__name__}"
    odd = [
        f"{name} ({type(value).__name__})"
        for name, value in loaded.items()
        if not (torch.is_tensor(value) and isinstance(name, str))
    ]
    if not odd:
        return "empty" if not loaded else f"of whole numbers, as quantised weights are: {_few(loaded)}"
    if any("_packed_params" in name for name in odd):
        return "that of a quantised module, whose weights are packed"
    return f"a dict with {_few(odd)} in it"


def _renamed(state: StateDict, wanted: StateDict, *, source: str, kind: str) -> StateDict:
    targets = {_bare(name): name for name in wanted}
    bare = {_bare(name): name for name in state}
    if len(bare) < len(state):  # with and without a wrapper: which is meant?
        return state
    prefixes = _prefixes(bare, targets)
    if len(prefixes) > 1 and all(f"{prefix}{name}" in bare for name in _needed(targets) for prefix in prefixes):
        raise WeightsError(f"{source} holds {kind} several times, as {_few(prefixes)}: save the one that is meant")
    if len(prefixes) != 1:
        return state
    (prefix,) = prefixes
    if beside := [name for name in bare if name in targets and not name.startswith(prefix)]:
        raise WeightsError(
            f"{source} holds {kind} behind {prefix}, and {_few(beside)} beside it: save the one that is meant"
        )
    renamed: dict[str, torch.Tensor] = {}
    for name, original in bare.items():
        target = targets.get(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if target or not _spare(name, prefix):
            renamed[target or original] = state[original]
    return renamed


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _prefixes(names: Iterable[str], targets: Mapping[str, Any]) -> list[str]:
    """What stands before most of the wanted names; several when that is the same number. Of a module and its moving
    average the module's.
    """
    counts = Counter(prefix for name in names for prefix in _before(name, targets))
    plain = {prefix: count for prefix, count in counts.items() if not EMA.search(prefix)} or dict(counts)
    return [prefix for prefix, count in plain.items() if count == max(plain.values())]


def _before(name: str, targets: Mapping[str, Any]) -> Iterator[str]:
    parts = name.split(".")
    for start in range(len(parts)):
        if ".".join(parts[start:]) in targets:
            yield "".join(f"{part}." for part in parts[:start])


def _spare(name: str, prefix: str) -> bool:
    """True for what training keeps beside the network: a moving average of it, or its loss."""
    first = name.partition(".")[0]
    averaged = EMA.search(first) is not None and not prefix.startswith(f"{first}.")
    return averaged or first in LOSSES or name.endswith(AVERAGES_COUNTER)


def _needed(wanted: Iterable[str]) -> list[str]:
    return [name for name in wanted if not name.endswith(COUNTER)]


def _check(state: StateDict, wanted: StateDict, *, source: str, kind: str) -> None:
    missing = [name for name in _needed(wanted) if name not in state]
    unexpected = [name for name in state if name not in wanted]
    both = [name for name in wanted if name in state]
    reshaped = [name for name in both if state[name].shape != wanted[name].shape]
    if missing and PART.search(source):
        raise WeightsError(f"{source} is one of several files that hold the weights together: save them as one file")
    if not (unexpected or reshaped) and (layer := _last_layer(missing, wanted)):
        raise WeightsError(f"{source} lacks {layer}, the last layer: weights of features alone name no categories")
    if not (missing or unexpected) and (said := _other_categories(state, wanted, reshaped)):
        raise WeightsError(f"{source}: {said}")
    shapes = [f"{name} is {_shape(state[name])} instead of {_shape(wanted[name])}" for name in reshaped]
    complaints = [*_some("missing", missing), *_some("unexpected", unexpected), *_some("of another shape", shapes)]
    if complaints:
        raise WeightsError(
            f"{source} holds weights of another model than {kind}: {'; '.join(complaints)}. Serve the architecture "
            "that they were trained with; layers of your own need a model of your own (docs/models.md)"
        )
    _check_precision(state, wanted, source=source)


def _check_precision(state: StateDict, wanted: StateDict, *, source: str) -> None:
    whole = {state[n].dtype for n in state if wanted[n].is_floating_point() and not state[n].is_floating_point()}
    if whole:
        types = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in whole))
        raise WeightsError(f"{source} is quantised ({types}): save the weights as floating-point numbers")


def _other_categories(state: StateDict, wanted: StateDict, reshaped: list[str]) -> str | None:
    """What to do when only the last layer's number of outputs differs."""
    layers = {name.rpartition(".")[0] for name in reshaped}
    if len(layers) != 1 or any(state[name].shape[1:] != wanted[name].shape[1:] for name in reshaped):
        return None
    (layer,), name = layers, reshaped[0]
    has, wants = len(state[name]), len(wanted[name])
    return (
        f"{layer or name} has {has} outputs in the file, and {wants} here. Weights trained on {has} categories need a "
        f"class whose `categories` are the names of those {has}, in their order (docs/models.md, Weights)"
    )


def _last_layer(missing: list[str], wanted: StateDict) -> str:
    """The name of the last layer, if all of it is missing, and nothing else; else ''."""
    last = list(wanted)[-1].rpartition(".")[0] if missing else ""
    return last if missing == [name for name in wanted if name.startswith(f"{last}.")] else ""


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _some(what: str, names: list[str]) -> list[str]:
    return [f"{what}: {_few(names)}"] if names else []


def _few(names: Iterable[Any]) -> str:
    """At most three: of another architecture, all of them differ."""
    listed = list(map(str, names))
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more
