"""Reading one image file as 8-bit RGB, within limits of size and time."""

import io
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)
from PIL import TiffImagePlugin as TIFF

from ..errors import ConfigError
from ..runtime.regular_files import printable
from ..runtime.time_limit import call_within
from .pixel_values import check_range, check_tiff, to_rgb
from .storage import Reader, find_reader

try:
    from simplejpeg import decode_jpeg
except ImportError:  # optional: PIL gives the same pixels in more time
    decode_jpeg = None

# The kinds of files that are read, by their first bytes, and PIL's classes of them. `Image.open`
# tries fifty other kinds, starts other programs for some, and has a limit of pixels of its own.
FIRST_BYTES = re.compile(
    rb"(?P<JPEG>\xff\xd8\xff)|(?P<PNG>\x89PNG\r\n\x1a\n)|(?P<WebP>RIFF....WEBP)|(?P<BMP>BM)"
    rb"|(?P<GIF>GIF8[79]a)|(?P<TIFF>II[*+]\0|MM\0[*+])",
    re.DOTALL,
)
KINDS = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "TIFF": TIFF.TiffImageFile,
}
Result = TypeVar("Result")
TILE_SIDES = TIFF.TILEWIDTH, TIFF.TILELENGTH
MAX_MEGAPIXELS, READ_SECONDS = "SLOTCON_MAX_MEGAPIXELS", "SLOTCON_READ_SECONDS"
DEFAULTS = {MAX_MEGAPIXELS: "178", READ_SECONDS: "60"}


class UnreadableImage(Exception):
    """A file that is missing, broken, or not an image. The message names the file and the cause."""

    def __init__(self, path: str | Path, reason: str):
        super().__init__(path, reason)  # both, so that pickling between processes works
        self.path, self.reason = str(path), reason

    def __str__(self) -> str:
        return printable(f"cannot read the image {self.path}: {self.reason}")


class ImageLimits(NamedTuple):
    """What is read of one image at most."""

    pixels: float  # of the image; its file may have eight bytes for each
    seconds: float

    def check_pixels(self, width: int, height: int) -> None:
        """A ValueError if an image of this size would be empty or have too many pixels."""
        if min(width, height) < 1:
            raise ValueError(f"the image has {width} x {height} pixels")
        if width * height > self.pixels:
            raise ValueError(
                f"{width} x {height} pixels are {width * height / 1e6:,.1f} megapixels, more than "
                f"{MAX_MEGAPIXELS}={self.pixels / 1e6:g}: scale it down, or set this variable of "
                "the environment"
            )


def image_limits() -> ImageLimits:
    """The limits that `SLOTCON_MAX_MEGAPIXELS` and `SLOTCON_READ_SECONDS` set."""
    limits = ImageLimits(1e6 * _from_environment(MAX_MEGAPIXELS), _from_environment(READ_SECONDS))
    if Image.MAX_IMAGE_PIXELS is not None:  # PIL refuses twice as many, somewhat above the default
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, int(limits.pixels / 2))
    return limits


def _from_environment(name: str) -> float:
    text = os.environ.get(name, DEFAULTS[name])
    with suppress(ValueError):
        if 0 < float(text) < 1e6:
            return float(text)
    raise ConfigError(f"{name} is {text!r}, expected a number above 0, below a million")


def read_pixels(path: str | Path, backend_args: dict | None = None) -> np.ndarray:
    """Read an image file, or another address of `storage`, as upright RGB pixels, uint8 (h, w, 3).

    The orientation is taken from EXIF or XMP. Grayscale and palette images become RGB; CMYK is
    converted without a color profile; 16-bit values are scaled to 8 bits (65535 becomes 255);
    transparent parts become white. Only the first frame of an animation is read. simplejpeg, if it
    is installed, decodes upright RGB JPEGs; PIL gives the same pixels in more time. docs/images.md
    lists the kinds of files. A file that cannot be read, for any reason, or whose values have no
    certain meaning, is an `UnreadableImage`; it is due to a TimeoutError if reading took too long.
    """
    return _read(path, _decode, backend_args)


def read_image(path: str | Path, backend_args: dict | None = None) -> Image.Image:
    """Read an image as a PIL image with the pixels of `read_pixels`."""
    return Image.fromarray(read_pixels(path, backend_args))


def read_unconverted(path: str | Path) -> Image.Image:
    """Read an image file, such as a label map, within the same limits as a PIL image as stored."""
    return _read(path, _load)


def read_size(path: str | Path) -> tuple[int, int]:
    """Width and height of an image file as it is shown, from its header, within the same limits."""
    return _read(path, _upright_size)


def _read(
    path: str | Path,
    decode: Callable[[Image.Image, bytes], Result],
    backend_args: dict | None = None,
) -> Result:
    """What `decode` returns for an image whose header is checked, and the bytes of its file."""
    limits = image_limits()
    try:
        read = find_reader(str(path), backend_args)  # indexing an archive has no limit of time
        return call_within(limits.seconds, lambda: decode(*_open(read, limits)))
    except TimeoutError as error:
        reason = f"{error}; {READ_SECONDS} in the environment sets another limit"
        raise UnreadableImage(path, reason) from error
    except Exception as error:  # decoders raise almost any exception on a broken file
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise UnreadableImage(path, f"{kind}{error}") from error


def _open(read: Reader, limits: ImageLimits) -> tuple[Image.Image, bytes]:
    data = read(8 * int(limits.pixels) + 2**20, _kind)
    image = KINDS[_kind(data)](io.BytesIO(data))
    limits.check_pixels(*image.size)
    if image.format == "TIFF":
        limits.check_pixels(*(image.tag_v2.get(side, 1) for side in TILE_SIDES))
        check_tiff(image)
    return image, data


def _kind(data: bytes) -> str:
    found = FIRST_BYTES.match(data)
    if found is None:
        raise ValueError(
            f"the file begins with {data[:16]!r}, expected one of {', '.join(KINDS)}: convert it"
        )
    return found.lastgroup


def _decode(image: Image.Image, data: bytes) -> np.ndarray:
    if decode_jpeg is not None and image.format == "JPEG":
        with suppress(Exception):  # PIL tolerates some faults, and explains the others
            if image.mode == "RGB" and _orientation(image) == 1:
                return decode_jpeg(data, fastdct=False, fastupsample=False, strict=True)
    return np.asarray(upright_rgb(image))


def upright_rgb(image: Image.Image) -> Image.Image:
    """A PIL image with the pixels of `read_pixels`.

    A ValueError says that they have no certain meaning; where the image's file was not read yet,
    PIL may raise any exception.
    """
    tags = image.tag_v2 if image.format == "TIFF" else {}
    deep = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    image.load()
    if deep:
        check_range(image)
    with suppress(Exception):  # broken metadata is ignored
        image = ImageOps.exif_transpose(image)
    return to_rgb(image, tags)


def _load(image: Image.Image, data: bytes) -> Image.Image:
    image.load()
    return image


def _upright_size(image: Image.Image, data: bytes) -> tuple[int, int]:
    return image.size[::-1] if _orientation(image) in (5, 6, 7, 8) else image.size


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(ExifTags.Base.Orientation, 1)
