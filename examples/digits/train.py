"""Trains the shipped `digits` model and writes the held-out images that the demo classifies.

Run it from the repository root:

    .venv/bin/python examples/digits/train.py

It writes `workers/models/digits.pt`, `examples/digits/images/` and `examples/digits/labels.csv`, and prints the share
of held-out images that the model gets right. The same seed gives the same images, and the same weights on one machine.
"""

import csv
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from torchvision.transforms import v2

from lowtide.workers.models import digits
from lowtide.workers.models.digits import Digits, DigitsNet

HERE = Path(__file__).parent
WEIGHTS = Path(digits.__file__).with_name("digits.pt")
SEED = 7
HELD_OUT = 360  # a fifth of 1,797
EPOCHS = 60
BATCH = 64
FULL = 16  # scikit-learn's digits run from 0 to 16
ENLARGED_PX = 64  # so that people see something; the model's decode shrinks it back to the very same 8 x 8


def main() -> None:
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # sums in one order
    data = load_digits()
    files = [as_png(image) for image in data.images]
    order = np.random.default_rng(SEED).permutation(len(files)).tolist()
    held_out, training = order[:HELD_OUT], order[HELD_OUT:]
    write_images([(files[index], int(data.target[index])) for index in held_out])
    items = torch.stack([Digits("digits").decode(file, {}) for file in files]).float() / digits.WHITE
    labels = torch.tensor(data.target)
    net = train(items[training], labels[training])
    torch.save(net.state_dict(), WEIGHTS)
    right = (net(items[held_out]).argmax(dim=1) == labels[held_out]).float().mean().item()
    print(f"{right:.1%} of {HELD_OUT} held-out images are right; {WEIGHTS.stat().st_size:,} bytes of weights")


def as_png(image: np.ndarray) -> bytes:
    picture = Image.fromarray((image * digits.WHITE / FULL).round().astype(np.uint8))
    file = io.BytesIO()
    picture.resize((ENLARGED_PX, ENLARGED_PX), Image.Resampling.NEAREST).save(file, "PNG", optimize=True)
    return file.getvalue()


def write_images(images: list[tuple[bytes, int]]) -> None:
    folder = HERE / "images"
    folder.mkdir(exist_ok=True)
    with (HERE / "labels.csv").open("w", newline="") as table:
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["file", "label"])
        for number, (content, label) in enumerate(images, start=1):
            name = f"{number:04d}.png"
            (folder / name).write_bytes(content)
            rows.writerow([name, label])


def train(items: torch.Tensor, labels: torch.Tensor) -> DigitsNet:
    net = DigitsNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-2)
    steps = EPOCHS * (len(items) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=steps)
    moved = v2.RandomAffine(
        degrees=10, translate=(0.08, 0.08), scale=(0.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR
    )
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(items))[: steps // EPOCHS * BATCH].split(BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(moved(items[chosen])), labels[chosen])
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


if __name__ == "__main__":
    main()
