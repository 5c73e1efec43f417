"""The meaning of stored pixel values: converted to 8-bit RGB, or refused with the reason."""

from collections.abc import Mapping

import numpy as np
from PIL import Image
from PIL import TiffImagePlugin as TIFF

EIGHT_BITS = ((np.arange(2**16) + 128) // 257).astype(np.uint8)  # of 16
NO_RANGE = "have no defined range: save it with 8 or 16 bits"


def check_tiff(image: Image.Image) -> None:
    """A ValueError for values of a TIFF file that have no defined range, or that PIL misreads."""
    tags = image.tag_v2
    if {2, 3} & set(tags.get(TIFF.SAMPLEFORMAT, ())) or image.mode in ("I", "F"):
        raise ValueError(f"signed, 32-bit and floating-point values {NO_RANGE}")
    if tags.get(TIFF.PLANAR_CONFIGURATION) == 2 and max(tags.get(TIFF.BITSPERSAMPLE, (1,))) > 8:
        raise ValueError("16 bits in separate planes are not read: interleave the bands")
    if image.mode == "LAB":
        raise ValueError("L*a*b* colors are not converted: save it as RGB")
    if image.mode in ("P", "PA") and max(tags[TIFF.COLORMAP]) < 256:
        raise ValueError("its palette has 8-bit values, expected 16 bits: save it as RGB")


def check_range(image: Image.Image) -> None:
    """A ValueError for 16-bit colors whose two highest bits are never used."""
    if image.mode.startswith("I"):
        highest, most = int(np.asarray(image).max()), 2**16
    else:  # PIL keeps the high byte of each color
        highest, most = max(high for _, high in image.getextrema()[:3]), 2**8
    if highest < most // 4:
        share = highest / (most - 1)
        raise ValueError(
            f"its 16-bit values reach only {share:.1%} of their range: they probably have 14 or "
            "fewer bits, but the file does not say how many. Scale them to 0-65535, or save 8 bits"
        )


def to_rgb(image: Image.Image, tags: Mapping[int, object]) -> Image.Image:
    """Convert a loaded image of any mode to 8-bit RGB, as described in `decode.read_pixels`.

    `tags` are those of a TIFF file.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # 16 bits: "I;16" and its byte orders, or "I" of a PNG
        # PIL's own conversion clips at 255 in some versions: nearly every pixel would be white.
        values = np.asarray(image)
        if tags.get(TIFF.BITSPERSAMPLE) == (12,):
            values = values << 4 | values >> 8
        white_is_zero = tags.get(TIFF.PHOTOMETRIC_INTERPRETATION) == 0
        values = EIGHT_BITS[values]
        image = Image.fromarray(255 - values if white_is_zero else values)
    if image.has_transparency_data:
        colors = image if image.mode == "RGBA" else image.convert("RGBA")
        alphas = np.flatnonzero(colors.getchannel("A").histogram())
        if tags and not {*alphas.tolist()} <= {0, 255}:
            raise ValueError(
                "its fourth band has other values than 0 and 255: it may be transparency or "
                "another color, such as infrared. Save it with three bands"
            )
        if alphas[-1] == 0 and "transparency" not in image.info:
            raise ValueError("all its pixels are transparent: save it without transparency")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, colors)
    return image.convert("RGB")
