"""What the device could do: decode, predict, encode in one process, and nothing else. Prints images a second.

`python bare_loop.py MODEL WEIGHTS FOLDER`, with the fetch and decode threads and the batch size of a worker.
"""

import itertools
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from lowtide.config import load_settings
from lowtide.workers.devices import devices_of
from lowtide.workers.registry import build_models


def images_per_second(name: str, weights: str, folder: Path) -> float:
    settings = load_settings(models=(name,), weights={name: weights} if weights else {})
    device = devices_of(settings.device)[0]
    model = build_models(settings)[name]
    model.load(device)
    files = sorted(folder.iterdir())
    started_s = time.perf_counter()
    with ThreadPoolExecutor(settings.decode_threads) as pool, torch.inference_mode():
        items = pool.map(lambda file: model.decode(file.read_bytes(), {}), files)
        while batch := list(itertools.islice(items, settings.batch_max_requests)):
            for output in model.predict(torch.stack(batch).to(device)):
                model.encode(output.cpu(), {})
    return len(files) / (time.perf_counter() - started_s)


if __name__ == "__main__":
    print(json.dumps(images_per_second(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
