"""A model that does no real work, and the worst of what real ones do when a request asks for it.

A request's content is its number; `params.do` is one of DEEDS. Every number that is predicted is written to a file of
the process in DRILL_RUNS, with the time, so that what runs twice can be counted.
"""

import os
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lowtide.workers.model import Model

REQUEST_S = float(os.environ.get("DRILL_REQUEST_S", "0.004"))
HANG_S = 3600.0
ROOM_BYTES = 3 << 30
BLOCK_BYTES = 64 << 20

DEEDS = ("answer", "raise", "hang", "abort", "exhaust", "sleep-40", "sleep-100")


class Drill(Model):
    """Answers every number with itself."""

    def load(self, device: torch.device) -> None:
        self.version = "1"
        path = Path(os.environ["DRILL_RUNS"]) / f"{os.getpid()}.txt"
        self._runs = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        if os.environ.get("DRILL_BOUNDED"):
            # What a request may exhaust is this process' share, not the machine's.
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + ROOM_BYTES
            resource.setrlimit(resource.RLIMIT_AS, (size, size))

    def decode(self, content: bytes, params: Mapping[str, Any]) -> torch.Tensor:
        return torch.tensor([int(content), DEEDS.index(params.get("do", "answer"))])

    def predict(self, batch: torch.Tensor) -> torch.Tensor:
        rows = batch.tolist()
        now = time.time()
        os.write(self._runs, "".join(f"{number} {now}\n" for number, _ in rows).encode())
        for _, deed in rows:
            _do(DEEDS[deed])
        time.sleep(REQUEST_S * len(rows))
        return batch[:, :1]

    def encode(self, output: torch.Tensor, params: Mapping[str, Any]) -> list[Any]:
        return [int(output.item())]


def _do(deed: str) -> None:
    if deed == "raise":
        raise ValueError("this request raises")
    if deed == "hang":
        time.sleep(HANG_S)
    if deed.startswith("sleep-"):
        time.sleep(float(deed.removeprefix("sleep-")))
    if deed == "abort":
        os.abort()
    if deed == "exhaust":
        blocks = []
        while True:
            blocks.append(bytearray(BLOCK_BYTES))
