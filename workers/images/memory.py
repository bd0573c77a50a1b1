"""How much memory decoding takes, over all threads together: who needs more than is left waits for those before.

A picture's need is known from its header, before a pixel is decoded. One that needs more than all there is runs alone.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

from PIL import Image

from lowtide.workers.images.plan import Plan

PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}
"""Of Pillow's modes; four of all others, RGB included."""

ROW_BYTES = 8
"""Pillow keeps a pointer to each row, which counts for a picture that is one pixel wide."""

BAND_BYTES = 32 * 1_000_000
"""What `plain` holds of a band, in all of its forms."""


class DecodeMemory:
    """Admits in the order of asking. Safe from any thread."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._used_bytes = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def share(self, *, resting: Callable[[], AbstractContextManager[None]] = nullcontext) -> Iterator[None]:
        """Around all that one thread does with one content: what `reserve` takes within is released at the end.

        `resting`: entered while it waits.
        """
        share = _Share(self, resting)
        token = _SHARE.set(share)
        try:
            yield
        finally:
            _SHARE.reset(token)
            self._release(share.held_bytes)

    def take(self, wanted_bytes: int) -> None:
        """Wait until so much is left, or nothing is in use."""
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            while self._waiting[0] is not ticket or not self._fits(wanted_bytes):
                self._changed.wait()
            self._waiting.popleft()
            self._used_bytes += wanted_bytes
            self._changed.notify_all()

    def add(self, wanted_bytes: int) -> None:
        """Take without waiting: for who holds some already, since two that wait for one another would wait for ever."""
        with self._changed:
            self._used_bytes += wanted_bytes

    def fits(self, wanted_bytes: int) -> bool:
        """True when nobody would have to wait."""
        with self._changed:
            return not self._waiting and self._fits(wanted_bytes)

    def _fits(self, wanted_bytes: int) -> bool:
        return not self._used_bytes or self._used_bytes + wanted_bytes <= self._budget_bytes

    def _release(self, held_bytes: int) -> None:
        with self._changed:
            self._used_bytes -= held_bytes
            self._changed.notify_all()


class _Share:
    """What one thread holds."""

    def __init__(self, memory: DecodeMemory, resting: Callable[[], AbstractContextManager[None]]) -> None:
        self.held_bytes = 0
        self._memory = memory
        self._resting = resting

    def reserve(self, wanted_bytes: int) -> None:
        if self.held_bytes:
            self._memory.add(wanted_bytes)
        elif self._memory.fits(wanted_bytes):
            self._memory.take(wanted_bytes)
        else:
            with self._resting():
                self._memory.take(wanted_bytes)
        self.held_bytes += wanted_bytes


_SHARE: ContextVar[_Share | None] = ContextVar("share of the memory for decoding", default=None)


def reserve(wanted_bytes: int) -> None:
    """Wait for so much of the process' memory for decoding. Nothing to wait for outside of a worker."""
    if share := _SHARE.get():
        share.reserve(wanted_bytes)


def needed_bytes(image: Image.Image, plan: Plan, *, mode: str, turned: bool) -> int:
    """What decoding takes, at most: the content, what the decoder holds, and the picture as it is decoded, in `mode`
    unless that is the same, and turned upright.
    """
    pixels, rows = image.width * image.height, max(image.size)
    decoded, made = (PIXEL_BYTES.get(form, 4) * pixels + ROW_BYTES * rows for form in (image.mode, mode))
    forms = decoded * (2 if plan.clear_bits == 16 and image.mode == "RGB" else 1)
    if image.mode != mode or plan.clear is not None:
        forms += made + BAND_BYTES
    if turned:
        forms += decoded if image.format == "TIFF" else made
    return 2 * len(plan.content) + plan.decoder_bytes + forms
