"""Reading one image file into 8-bit RGB, whatever it holds."""

import io
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

try:
    from simplejpeg import decode_jpeg
except ImportError:  # it only saves time: PIL gives the same pixels
    decode_jpeg = None

BACKGROUND = (255, 255, 255)


class UnreadableImage(Exception):
    """A file that is missing, broken, or no image. Its text names the file and says why."""

    def __init__(self, path: str | Path, reason: str):
        super().__init__(path, reason)  # both, so that it survives pickling between processes
        self.path = str(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot read the image {self.path}: {self.reason}"


def read_image(path: str | Path) -> Image.Image:
    """Read an image file: decoded, upright, 8 bits a channel, RGB.

    Orientation is taken from EXIF. Gray and palette images become RGB; CMYK is converted without
    a color profile; 16-bit values are scaled to 8 (65535 becomes 255); transparent parts show
    white, the ground on which such images are usually drawn. Of an animation, the first frame.

    Raises:
        UnreadableImage: the file cannot be read, for any reason.
    """
    try:
        return _read(path)
    except Exception as error:  # decoders raise almost anything on a broken file
        raise UnreadableImage(path, f"{type(error).__name__}: {error}") from error


def read_pixels(path: str | Path) -> np.ndarray:
    """The pixels of `read_image`, uint8 (h, w, 3), the same values in less time.

    An intact, upright RGB JPEG goes through simplejpeg if that is installed, straight into the
    array; any other file, and whatever simplejpeg complains about, through `read_image`'s way.

    Raises:
        UnreadableImage: the file cannot be read, for any reason.
    """
    try:
        if decode_jpeg is not None and _is_plain_jpeg(data := Path(path).read_bytes()):
            try:
                return decode_jpeg(data, fastdct=False, fastupsample=False, strict=True)
            except ValueError:
                pass  # PIL forgives some faults, and names the others
        return np.asarray(_read(path))
    except Exception as error:
        raise UnreadableImage(path, f"{type(error).__name__}: {error}") from error


def _read(path: str | Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return to_rgb(upright(image))


def _is_plain_jpeg(data: bytes) -> bool:
    """Whether these are the bytes of an RGB JPEG that is stored upright; only its head is read."""
    if not data.startswith(b"\xff\xd8"):
        return False
    with Image.open(io.BytesIO(data)) as image:
        if image.format != "JPEG" or image.mode != "RGB":
            return False
        if "exif" not in image.info:
            return True
        try:
            return image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        except Exception:  # as `upright` takes it
            return False


def upright(image: Image.Image) -> Image.Image:
    """Turn the image as its EXIF orientation asks; unreadable EXIF data is taken as none."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken metadata does not make the pixels worthless
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded image of any mode to 8-bit RGB, see `read_image`.

    Raises:
        ValueError: floating-point pixels (mode "F"), whose range is not defined.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # "I;16" and its byte orders; "I" holds 16 bits in 32
        return _scale_16_bit(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def _scale_16_bit(image: Image.Image) -> Image.Image:
    # PIL's own conversion clips at 255 in some versions: nearly every pixel would be white.
    values = np.asarray(image).astype(np.int64).clip(0, 65535)
    gray = ((values + 128) // 257).astype(np.uint8)
    return Image.fromarray(gray).convert("RGB")
