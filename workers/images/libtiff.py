"""Libtiff keeps quiet: what it says of strangers' files goes neither to standard error nor to the log, and is counted.

It would write a line for every row that it can't make sense of, past every log and its redaction. Its handlers are one
pair for the process, its public interface, and reached through the module of Pillow that is linked with it.
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import _imaging, features

from lowtide.workers.images.plan import damaged

_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
"""void (*)(const char *module, const char *format, va_list)."""

_heard = threading.local()


def _hear(module: bytes | None, form: bytes | None, values: int | None) -> None:
    """Called on the thread that decodes."""
    _heard.errors = getattr(_heard, "errors", 0) + 1


_ON_ERROR = _HANDLER(_hear)
"""Kept: libtiff calls it as long as the process lives."""


def _quieten() -> bool:
    """Installs the handlers. False when Pillow has a libtiff that can't be reached, as in a build of one's own."""
    if not features.check("libtiff"):
        return True
    try:
        library = ctypes.CDLL(_imaging.__file__)
        library.TIFFSetErrorHandler(_ON_ERROR)
        library.TIFFSetWarningHandler(None)
    except (OSError, AttributeError):
        return False
    return True


QUIET = _quieten()


@contextmanager
def errors_are_damage() -> Iterator[None]:
    """Around a decoding on this thread. Raises ContentError when libtiff said that something is wrong, and went on:
    the fax decoder, for one, makes a picture of anything.
    """
    _heard.errors = 0
    yield
    if _heard.errors:
        raise damaged(f"libtiff found {_heard.errors:,} errors in its pixels")
