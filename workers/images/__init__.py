"""Bytes to a picture: what a stranger sent becomes a plain one, or a ContentError that says why it can't.

Comes in: a request's content. `kinds` says what it is; a file per format reads the header, says what is not supported,
and leaves out what is no part of the picture; Pillow, or libjpeg itself, decodes within `memory`; `plain` makes eight
bits of it, on white.
Goes out: an upright picture, RGB or grey. Next: the model's own preprocessing, and `pixels` for a tensor.
"""

from lowtide.workers.images.decode import decode_image, pixels
from lowtide.workers.images.kinds import FORMATS

__all__ = ["FORMATS", "decode_image", "pixels"]
