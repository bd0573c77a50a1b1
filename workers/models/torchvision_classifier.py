"""`TorchvisionClassifier`: any torchvision classification model, by its name."""

import difflib
import logging
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pickle import UnpicklingError
from typing import Any, ClassVar

import torch
from torch import nn

from lowtide.config.settings import SettingsError
from lowtide.workers.images import decode_image
from lowtide.workers.model import Limits
from lowtide.workers.models.classifier import Classifier
from lowtide.workers.models.preprocessing import Preprocessing
from lowtide.workers.models.random_weights import random_net, seed_of
from lowtide.workers.models.state_dict import WeightsError
from lowtide.workers.models.weights import file_version, fill, load_state_dict, meant_file, weights_file
from lowtide.workers.models.without_dynamo import without_dynamo

with without_dynamo():
    from torchvision import models

log = logging.getLogger(__name__)

RANDOM = "random"

AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Heads of googlenet and inception_v3 that are used in training only; the published files have them."""

OLD_DENSENET_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
"""torchvision's densenet files are older than its densenet code, which renames in the same way when it downloads."""

TENSOR_CORES = (7, 0)
"""Compute capability from which half precision pays: Volta. Pascal's is no faster, and many CPUs' is slower."""


@cache
def architectures() -> tuple[str, ...]:
    """The names of torchvision's classification models."""
    return tuple(models.list_models(module=models))


class TorchvisionClassifier(Classifier):
    """A torchvision classification model with its published preprocessing and categories.

    `weights` is `DEFAULT` or another name of torchvision's weights for this architecture (downloaded once), a URI of a
    state dict, or `random`. With the latter two, preprocessing comes from the DEFAULT weights, and so do the categories
    unless a subclass brings its own:

        class Birds(TorchvisionClassifier):
            architecture = "resnet50"
            categories = ("blackbird", "robin", "wren")

    On a GPU with tensor cores it computes in float16 where torch's autocast finds that safe. Scores then differ from
    float32's by rounding (11 bits of mantissa; bfloat16 has 8). Should a sum overflow, the batch is computed again in
    float32, and from then on all are.
    """

    default_weights = "DEFAULT"
    architecture: ClassVar[str | None] = None

    def __init__(
        self,
        name: str,
        *,
        architecture: str | None = None,
        weights: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        """`architecture`: torchvision's name of the model; default: the class's, else `name`.

        Raises SettingsError when torchvision has no such architecture, or no such weights for it.
        """
        super().__init__(name, weights=weights, limits=limits)
        self._architecture = architecture or self.architecture or name
        if self._architecture not in architectures():
            raise SettingsError(f"{name}: torchvision has no classification model {self._architecture}")
        published = models.get_model_weights(self._architecture)
        self._published = self._chosen(published)
        described = self._published or published.DEFAULT
        self._preprocessing = Preprocessing.published(described.transforms())
        self.categories: Sequence[str] = self.categories or described.meta["categories"]
        self._half = False

    def load(self, device: torch.device) -> None:
        """Load the weights onto `device` and set `version`: the weights' name at torchvision, `random-<seed>`, or the
        beginning of the file's SHA-256. Raises WeightsError.
        """
        self._device = device
        self._half = device.type == "cuda" and torch.cuda.get_device_capability(device) >= TENSOR_CORES
        # Convolutions read all channels of a pixel at once.
        self._net = self._loaded().eval().to(device).to(memory_format=torch.channels_last)

    def decode(self, content: bytes, params: Mapping[str, Any]) -> torch.Tensor:
        """uint8 (3, crop, crop). Raises ContentError, and InvalidRequest for a bad `top_k`."""
        self.top_k(params)
        steps = self._preprocessing
        return steps.cut_out(decode_image(content, max_pixels=self.limits.image_max_pixels, enough_px=steps.enough_px))

    def example(self) -> torch.Tensor | None:
        """On a GPU, which loads its kernels with the first batches: a black picture. On a CPU, which has nothing to
        load and would take seconds for a large net, and of a subclass that decodes in a way of its own, none.
        """
        if self._device.type != "cuda" or type(self).decode is not TorchvisionClassifier.decode:
            return None
        return torch.zeros(3, self._preprocessing.crop_px, self._preprocessing.crop_px, dtype=torch.uint8)

    @torch.inference_mode()
    def predict(self, batch: torch.Tensor) -> torch.Tensor:
        """Probabilities, float32 (n, categories), of uint8 (n, 3, crop, crop)."""
        pictures = self._preprocessing.normalise(batch).contiguous(memory_format=torch.channels_last)
        scores = self._scores(pictures)
        if self._half and not scores.isfinite().all():
            log.warning("%s overflows in float16: float32 from here on", self.name)
            self._half = False
            scores = self._scores(pictures)
        return scores

    def _scores(self, pictures: torch.Tensor) -> torch.Tensor:
        with torch.autocast(pictures.device.type, dtype=torch.float16, enabled=self._half):
            logits: torch.Tensor = self._net(pictures)
        return logits.float().softmax(dim=1)

    def _chosen(self, published: Any) -> Any:
        """The published weights that `self.weights` names; None for `random` and for a URI."""
        weights = self.weights or ""
        if weights == RANDOM or "://" in weights:
            return None
        if weights not in published.__members__:
            raise SettingsError(_unknown_weights(self.name, weights, list(published.__members__)))
        if published[weights].meta["categories"] is None:
            raise SettingsError(f"LOWTIDE_WEIGHTS: {weights} of {self.name} classify nothing: they are for features")
        if self.categories:
            raise SettingsError(f"{self.name} has categories of its own: LOWTIDE_WEIGHTS has to name a URI for it")
        return published[weights]

    def _loaded(self) -> nn.Module:
        if self._published:
            self.version = self._published.name
            return self._downloaded()
        if self.weights == RANDOM:
            seed = seed_of(self._architecture)
            self.version = f"{RANDOM}-{seed}"
            return random_net(self._empty, seed=seed, side_px=self._preprocessing.crop_px)
        return self._from_uri(self.weights or "")

    def _downloaded(self) -> nn.Module:
        """Torch's hub keeps the file under TORCH_HOME; when it comes, its SHA-256 is compared with that in its name."""
        try:
            state = self._published.get_state_dict(
                progress=False, check_hash=True, map_location="cpu", weights_only=True
            )
        except UnpicklingError as error:
            first_line = str(error).partition("\n")[0].rstrip()
            raise WeightsError(
                f"{self.name}: {self._published.url} is kept as what torch does not load safely: {first_line}"
            ) from error
        except (OSError, RuntimeError) as error:
            raise WeightsError(
                f"{self.name}: {self._published.url} can't be downloaded: {error}. Without internet, set "
                f"LOWTIDE_WEIGHTS={self.name}=URI, or try {self.name}={RANDOM}"
            ) from error
        net = self._empty()
        fill(net, _todays_names(state), source=self._published.url)
        return net

    def _from_uri(self, uri: str) -> nn.Module:
        path = weights_file(uri)
        self.version = file_version(path)
        net = self._empty()
        fill(net, _todays_names(load_state_dict(path, source=uri)), source=uri)
        return net

    def _empty(self) -> nn.Module:
        """The architecture, with weights that mean nothing yet."""
        extra: dict[str, Any] = {}
        if self._architecture in ("googlenet", "inception_v3"):
            # As their builders do for published weights, which expect other means than the published transforms give.
            extra = {"transform_input": True, "aux_logits": False, "init_weights": False}
        elif self._architecture.startswith("vit_"):  # which learns a place for each patch of the image
            extra = {"image_size": self._preprocessing.crop_px}
        net: nn.Module = models.get_model(self._architecture, weights=None, num_classes=len(self.categories), **extra)
        return net


def _todays_names(state: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Heads for training and old names may stand behind a prefix."""
    return {
        OLD_DENSENET_NAME.sub(r"\1\2", name): value
        for name, value in state.items()
        if not any(f".{head}" in f".{name}" for head in AUXILIARY)
    }


def _unknown_weights(name: str, weights: str, known: list[str]) -> str:
    if said := meant_file(weights):
        return f"LOWTIDE_WEIGHTS: torchvision has no weights {weights} for {name}{said}"
    close = difflib.get_close_matches(weights.upper(), known)
    meant = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}."
    return f"LOWTIDE_WEIGHTS: torchvision has no weights {weights} for {name}; {meant} Or a URI, or `{RANDOM}`."
