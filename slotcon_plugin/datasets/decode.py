"""Reading one image file as 8-bit RGB."""

import io
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

try:
    from simplejpeg import decode_jpeg
except ImportError:  # optional: PIL gives the same pixels in more time
    decode_jpeg = None


class UnreadableImage(Exception):
    """A file that is missing, broken, or not an image. The message names the file and the cause."""

    def __init__(self, path: str | Path, reason: str):
        super().__init__(path, reason)  # both, so that pickling between processes works
        self.path, self.reason = str(path), reason

    def __str__(self) -> str:
        return f"cannot read the image {self.path}: {self.reason}"


def read_pixels(path: str | Path) -> np.ndarray:
    """Read an image file as upright RGB pixels, uint8 (h, w, 3).

    The orientation is taken from EXIF or XMP. Grayscale and palette images become RGB; CMYK is
    converted without a color profile; 16-bit values are scaled to 8 bits (65535 becomes 255);
    transparent parts become white. Only the first frame of an animation is read. simplejpeg, if it
    is installed, decodes upright RGB JPEGs; PIL gives the same pixels in more time. A file that
    cannot be read, for any reason, is an `UnreadableImage`.
    """
    try:
        if decode_jpeg is not None:
            data = Path(path).read_bytes()
            with suppress(Exception):  # PIL tolerates some faults, and explains the others
                if _is_upright_rgb_jpeg(data):
                    return decode_jpeg(data, fastdct=False, fastupsample=False, strict=True)
        return np.asarray(_read(path))
    except Exception as error:  # decoders raise almost any exception on a broken file
        raise UnreadableImage(path, f"{type(error).__name__}: {error}") from error


def read_image(path: str | Path) -> Image.Image:
    """Read an image file as a PIL image with the pixels of `read_pixels`."""
    return Image.fromarray(read_pixels(path))


def _read(path: str | Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        with suppress(Exception):  # broken metadata is ignored
            image = ImageOps.exif_transpose(image)
        return _to_rgb(image)


def _is_upright_rgb_jpeg(data: bytes) -> bool:
    """Whether simplejpeg decodes this file to the same pixels as PIL, as its header says."""
    if not data.startswith(b"\xff\xd8"):
        return False
    with Image.open(io.BytesIO(data)) as image:
        return image.mode == "RGB" and image.getexif().get(ExifTags.Base.Orientation, 1) == 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # "I;16" and its byte orders; "I" holds 16 bits in 32
        # PIL's own conversion clips at 255 in some versions: nearly every pixel would be white.
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")
