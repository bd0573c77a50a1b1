"""Pictures, small: each as the model saw it, since the workers' own decoder reads them."""

import base64
import io
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urlsplit

from PIL import Image

from lowtide.cli.sources.sources import NoSource, Source
from lowtide.config import Settings
from lowtide.tasks.errors import ContentError, MemoryShort
from lowtide.workers.images.decode import decode_image
from lowtide.workers.images.memory import DecodeMemory

SIDE_PX = 96
QUALITY = 50
METHOD = 2
"""Of WebP: 1.0 kB and 0.3 ms for a photograph; JPEG takes 1.7 kB, as its tables alone take 0.6."""
LOSSLESS_PX = 32
"""Up to this size every pixel counts."""
BUDGET_BYTES = 16_000_000
"""Of all thumbnails of a page: some 15,000 photographs."""
AT_ONCE = 256


def thumbnails(
    sources: Iterable[Source],
    settings: Settings,
    *,
    made: Callable[[], None] = lambda: None,
    budget_bytes: int = BUDGET_BYTES,
) -> Iterator[tuple[str, str]]:
    """Request id and picture (a data: URI) of each source that is a picture in a file here, while the budget lasts.
    `made` is called for every source that was looked at.
    """
    memory = DecodeMemory(settings.decode_memory_bytes)
    left_bytes = budget_bytes
    waiting = iter(sources)

    def small(source: Source) -> tuple[Source, bytes | None]:
        with memory.share():
            return source, thumbnail(source, settings)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        while group := list(islice(waiting, AT_ONCE)):
            for source, picture in threads.map(small, group):
                made()
                left_bytes -= len(picture or b"")
                if left_bytes < 0:
                    return
                if picture:
                    yield source.request_id, f"data:image/webp;base64,{base64.b64encode(picture).decode()}"


def thumbnail(source: Source, settings: Settings) -> bytes | None:
    """WebP of at most 96 x 96 pixels. None for what is no picture, or not on this machine."""
    try:
        content = source.content(local_files=True)
        if isinstance(content, str):  # a URI: of a file of this machine, if it is large
            path = _path(content) if source.path else None
            if path is None or path.stat().st_size > settings.content_max_bytes:
                return None
            content = path.read_bytes()
        picture = decode_image(content, max_pixels=settings.image_max_pixels, enough_px=SIDE_PX)
    except (NoSource, OSError, ContentError, MemoryShort):
        return None
    lossless = max(picture.size) <= LOSSLESS_PX
    picture.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
    written = io.BytesIO()
    picture.save(written, "WEBP", lossless=lossless, quality=QUALITY, method=METHOD)
    return written.getvalue()


def _path(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path))
