"""Reading one picture file into 8-bit RGB, whatever it holds."""

import io
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

try:
    from simplejpeg import decode_jpeg
except ImportError:  # it only saves time: PIL gives the same pixels
    decode_jpeg = None

BACKGROUND = (255, 255, 255)


class UnreadablePicture(Exception):
    """A file that is missing, broken, or no picture. Its text names the file and says why."""

    def __init__(self, path: str | Path, reason: str):
        super().__init__(path, reason)  # both, so that it survives pickling between processes
        self.path = str(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot read the picture {self.path}: {self.reason}"


def read_picture(path: str | Path) -> Image.Image:
    """Read a picture file: decoded, upright, 8 bits a channel, RGB.

    Orientation is taken from EXIF. Grey and palette pictures become RGB; CMYK is converted without
    a colour profile; 16-bit values are scaled to 8 (65535 becomes 255); transparent parts show
    white, the ground on which such pictures are usually drawn. Of an animation, the first frame.

    Raises:
        UnreadablePicture: the file cannot be read, for any reason.
    """
    try:
        return _read(path)
    except Exception as error:  # decoders raise almost anything on a broken file
        raise UnreadablePicture(path, f"{type(error).__name__}: {error}") from error


def read_pixels(path: str | Path) -> np.ndarray:
    """The pixels of `read_picture`, uint8 (h, w, 3), the same values in less time.

    An intact, upright RGB JPEG goes through simplejpeg if that is installed, straight into the
    array; any other file, and whatever simplejpeg complains about, through `read_picture`'s way.

    Raises:
        UnreadablePicture: the file cannot be read, for any reason.
    """
    try:
        if decode_jpeg is not None and _is_plain_jpeg(data := Path(path).read_bytes()):
            try:
                return decode_jpeg(data, fastdct=False, fastupsample=False, strict=True)
            except ValueError:
                pass  # PIL forgives some faults, and names the others
        return np.asarray(_read(path))
    except Exception as error:
        raise UnreadablePicture(path, f"{type(error).__name__}: {error}") from error


def _read(path: str | Path) -> Image.Image:
    with Image.open(path) as picture:
        picture.load()
        return to_rgb(upright(picture))


def _is_plain_jpeg(data: bytes) -> bool:
    """Whether these are the bytes of an RGB JPEG that is stored upright; only its head is read."""
    if not data.startswith(b"\xff\xd8"):
        return False
    with Image.open(io.BytesIO(data)) as picture:
        if picture.format != "JPEG" or picture.mode != "RGB":
            return False
        if "exif" not in picture.info:
            return True
        try:
            return picture.getexif().get(ExifTags.Base.Orientation, 1) == 1
        except Exception:  # as `upright` takes it
            return False


def upright(picture: Image.Image) -> Image.Image:
    """Turn the picture as its EXIF orientation asks; unreadable EXIF data is taken as none."""
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # broken metadata does not make the pixels worthless
        return picture


def to_rgb(picture: Image.Image) -> Image.Image:
    """Convert a decoded picture of any mode to 8-bit RGB, see `read_picture`.

    Raises:
        ValueError: floating-point pixels (mode "F"), whose range is not defined.
    """
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no defined range; save it with 8 or 16 bits")
    if picture.mode.startswith("I"):  # "I;16" and its byte orders; "I" holds 16 bits in 32
        return _scale_16_bit(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, (*BACKGROUND, 255))
        return Image.alpha_composite(ground, picture).convert("RGB")
    return picture.convert("RGB")


def _scale_16_bit(picture: Image.Image) -> Image.Image:
    # PIL's own conversion clips at 255 in some versions: nearly every pixel would be white.
    values = np.asarray(picture).astype(np.int64).clip(0, 65535)
    grey = ((values + 128) // 257).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
