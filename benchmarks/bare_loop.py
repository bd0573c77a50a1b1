"""What the device could do: decode, predict, encode in one process, and nothing else. Prints images a second.

`python -m benchmarks.bare_loop MODEL WEIGHTS FOLDER`, with the decode threads of a worker, at the fastest of a few
batch sizes: the largest is not the fastest on every device.
"""

import itertools
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from lowtide.config import load_settings
from lowtide.workers.device.devices import devices_of
from lowtide.workers.model import Model
from lowtide.workers.models.registry import build_models

BATCHES = (8, 16, 32, 64)


def images_per_second(name: str, weights: str, folder: Path) -> float:
    settings = load_settings(models=(name,), weights={name: weights} if weights else {})
    device = devices_of(settings.device)[0]
    model = build_models(settings)[name]
    model.load(device)
    files = sorted(folder.iterdir())
    return max(loop(model, device, files, batch=batch, threads=settings.decode_threads) for batch in BATCHES)


def loop(model: Model, device: torch.device, files: list[Path], *, batch: int, threads: int) -> float:
    started_s = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool, torch.inference_mode():
        items = pool.map(lambda file: model.decode(file.read_bytes(), {}), files)
        while some := list(itertools.islice(items, batch)):
            outputs = model.predict(torch.stack(some).to(device))
            assert isinstance(outputs, torch.Tensor)
            for output in outputs:
                model.encode(output.cpu(), {})
    return len(files) / (time.perf_counter() - started_s)


if __name__ == "__main__":
    print(json.dumps(images_per_second(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
