"""`Classifier`: a Model whose outputs are the best few of a fixed list of categories."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from lowtide.tasks.errors import InvalidRequest
from lowtide.tasks.wire.invalid import shown
from lowtide.workers.model import Model

SCORE_DIGITS = 6
"""Decimals of a score: float32 softmax has about seven significant ones, and JSON stays short."""
_NO_LETTER = re.compile(r"[^A-Za-z]")


class Classifier(Model):
    """Encodes scores of shape (categories,) as `[{"index": 207, "label": "golden retriever", "score": 0.83}, …]`.

    Best first; as many as `params["top_k"]` says, else `default_top_k`. Scores are probabilities: over all categories
    they add up to 1.
    """

    default_top_k: ClassVar[int] = 5
    categories: Sequence[str] = ()

    def encode(self, output: torch.Tensor, params: Mapping[str, Any]) -> list[Any]:
        """The best of `output`, shape (categories,). Raises InvalidRequest when `top_k` is no good."""
        scores, indices = output.float().topk(self.top_k(params))
        return [
            {"index": index, "label": self.categories[index], "score": round(score, SCORE_DIGITS)}
            for index, score in zip(indices.tolist(), scores.tolist(), strict=True)
        ]

    def top_k(self, params: Mapping[str, Any]) -> int:
        """How many categories the request wants; null is absent. Raises InvalidRequest unless it is 1 … their number,
        and for another spelling of its name.

        `decode` calls it too, so that a bad request fails before it costs time on the device.
        """
        most = len(self.categories)
        for name, value in params.items():
            if value is not None and name != "top_k" and _NO_LETTER.sub("", name).lower() == "topk":
                raise InvalidRequest("is no parameter (is top_k meant?)", field=f"params.{name}")
        if (top_k := params.get("top_k")) is None:
            return min(self.default_top_k, most)
        if type(top_k) is not int or not 1 <= top_k <= most:  # type(): True is an int too
            raise InvalidRequest(f"expected a whole number from 1 to {most}, got {shown(top_k)}", field="params.top_k")
        return top_k
