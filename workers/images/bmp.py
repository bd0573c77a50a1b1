"""BMP: which of its variants are decoded, and whether all of the pixels came."""

import struct

from lowtide.workers.images.plan import Plan, cut_off, damaged, unsupported

CORE, OS2, ALPHA_HEADER = 12, (16, 64), 56
"""Sizes of the second header: the oldest, those of OS/2, and the first that has a mask of alpha."""

RGB, RLE8, RLE4, BITFIELDS = 0, 1, 2, 3
DEPTHS = {RGB: (1, 4, 8, 16, 24, 32), RLE8: (8,), RLE4: (4,), BITFIELDS: (16, 32)}
"""Compressions and their bits per pixel."""

MASKS: dict[int, set[tuple[int, ...]]] = {
    16: {(0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)},
    32: {
        (0xFF0000, 0xFF00, 0xFF, 0),
        (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
        (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
        (0xFF000000, 0xFF0000, 0xFF00, 0),
        (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
        (0xFF000000, 0xFF00, 0xFF, 0),
        (0xFF000000, 0xFF00, 0xFF, 0xFF0000),
    },
}
"""Bits per pixel → where red, green, blue and alpha are in it, as far as Pillow knows."""

NAMES = {4: "a JPEG inside a BMP", 5: "a PNG inside a BMP"}


def plan(content: bytes) -> Plan:
    """Raises ContentError: what is cut off, damaged, or not supported."""
    header = int.from_bytes(content[14:18], "little")
    if len(content) < 14 + header:
        raise cut_off(content)
    at = int.from_bytes(content[10:14], "little")
    if header == CORE:
        width_px, height_px, _, bits = struct.unpack_from("<HHHH", content, 18)
        compression = colours = data_bytes = 0
    else:
        fields = struct.unpack_from("<iiHHIIiiI", content, 18)
        width_px, height_px, _, bits, compression, data_bytes, *_, colours = fields
    _check_variant(header, bits, compression)
    if compression == BITFIELDS:
        _check_masks(content, header, bits)
    size = width_px, abs(height_px)
    row_bytes = (width_px * bits + 31) // 32 * 4
    wanted_bytes = at + (row_bytes * size[1] if compression in (RGB, BITFIELDS) else data_bytes)
    if min(size) <= 0:
        raise damaged(f"its header says {width_px} x {height_px} pixels")
    if len(content) < wanted_bytes:
        raise cut_off(content, wanted_bytes=wanted_bytes)
    return Plan(
        content=_with_palette_kept(content, 14 + header, bits=bits, colours=colours or 1 << bits, core=header == CORE),
        size=size,
        # Pillow unpacks runs into bytes, twice.
        decoder_bytes=0 if compression in (RGB, BITFIELDS) else 2 * size[0] * size[1],
        alpha_may_be_unused=True,
    )


def _check_variant(header: int, bits: int, compression: int) -> None:
    if compression in NAMES:
        raise unsupported(NAMES[compression])
    if header in OS2 and compression >= BITFIELDS:
        raise unsupported(f"a BMP of OS/2 with compression {compression}")
    if bits not in DEPTHS.get(compression, ()):
        raise unsupported(f"a BMP of {bits} bits per pixel with compression {compression}")


def _check_masks(content: bytes, header: int, bits: int) -> None:
    if len(content) < 70:
        raise cut_off(content)
    masks = struct.unpack_from("<IIII", content, 54)[: 3 if bits == 16 else 4]
    if bits == 32 and header < ALPHA_HEADER:
        masks = (*masks[:3], 0)
    if masks not in MASKS[bits]:
        raise unsupported(f"a BMP of {bits} bits per pixel with masks {', '.join(f'{mask:X}' for mask in masks)}")


def _with_palette_kept(content: bytes, at: int, *, bits: int, colours: int, core: bool) -> bytes:
    """Pillow drops a palette of greys that are their own numbers, and then takes pixels for as many bits as colours
    need, or for eight, whatever they have. One step of blue more keeps the palette.
    """
    step = 3 if core else 4
    if bits not in (4, 8) or (bits == 8 and colours > 2):
        return content
    greys = (0, 255) if colours == 2 else range(min(colours, 256))
    entries = [content[at + step * index :][:3] for index in range(len(greys))]
    if entries != [bytes((grey,)) * 3 for grey in greys]:
        return content
    return content[:at] + b"\1" + content[at + 1 :]
