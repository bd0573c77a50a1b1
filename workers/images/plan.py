"""What the header of a picture says, and the complaints that all formats share."""

from dataclasses import dataclass

from lowtide.tasks.errors import ContentError


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a picture is to be read. `size`: width and height in pixels, before it is turned upright."""

    content: bytes
    """What the decoder gets: the picture without its text, profiles, timing and further frames."""

    size: tuple[int, int]

    tile: tuple[int, int] = (0, 0)
    """Width and height of what is decoded at once, pixels; zeros where that is never larger than the picture."""

    decoder_bytes: int = 0
    """What the decoder holds beside the picture, at most."""

    white: int = 0xFFFF
    """Of grey samples beyond eight bits: the one that is white, or black if `inverted`."""

    inverted: bool = False

    clear: tuple[int, ...] | None = None
    """The one grey or RGB value that is transparent, in the picture's own depth of `clear_bits`."""

    clear_bits: int = 8

    alpha_may_be_unused: bool = False
    """Alpha that is zero everywhere was never filled in, and counts for nothing."""

    box: tuple[int, int, int, int] | None = None
    """Left, top, right, bottom of what the first frame covers. The rest of the picture is transparent."""


def unsupported(what: str, *, instead: str = "JPEG, PNG or WebP") -> ContentError:
    """A picture, but of a kind that is not decoded: `what` names it."""
    return ContentError(f"{what} is not supported: send {instead}", type="unsupported_image")


def cut_off(content: bytes, *, wanted_bytes: int | None = None, missing: str = "its end is missing") -> ContentError:
    """A picture that is not all there: how much came, and of how much, if its header says so."""
    lack = f"of {wanted_bytes:,}" if wanted_bytes else f"and {missing}"
    return ContentError(f"the image is cut off: {len(content):,} bytes came, {lack}", type="truncated_image")


def damaged(why: str) -> ContentError:
    """A picture whose bytes contradict each other."""
    return ContentError(f"the image is damaged: {why}", type="damaged_image")
