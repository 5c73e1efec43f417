"""Images as Python users have them: paths, PIL images, arrays and tensors."""

import os
from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image

from ..errors import DataError
from .decode import UnreadableImage, image_limits, read_image, upright_rgb
from .pixel_values import NO_RANGE, check_range, check_tiff

GivenImage = str | os.PathLike | Image.Image | np.ndarray | torch.Tensor
KINDS = (
    "a path, a PIL image, a NumPy array (h, w), (h, w, 3) or (h, w, 4), or a tensor (3, h, w) or "
    "(1, h, w), of uint8 or of floating-point values from 0 to 1"
)


def listed_images(images: GivenImage | Iterable[GivenImage]) -> list[GivenImage] | None:
    """The images of a list, of a batch (an array or a tensor of four axes) or of an array of paths;
    None for one image."""
    if isinstance(images, np.ndarray | torch.Tensor):
        are_paths = isinstance(images, np.ndarray) and images.dtype.kind == "U" and images.ndim == 1
        return list(images) if images.ndim == 4 or are_paths else None
    is_one = isinstance(images, str | bytes | os.PathLike | Image.Image | dict)
    return None if is_one or not isinstance(images, Iterable) else list(images)


def read_given(image: GivenImage) -> Image.Image:
    """An image of any kind as upright 8-bit RGB, with the pixels of `decode.read_pixels`.

    Of a PIL image too, the orientation is taken from its EXIF data, and transparent parts become
    white. Arrays and tensors are RGB or gray: uint8, or floating-point values in [0, 1], which are
    rounded to 8 bits; arrays with a fourth channel have transparency.

    Raises:
        DataError: it cannot be read, or is none of KINDS.
    """
    try:
        if isinstance(image, str | os.PathLike):
            return read_image(os.path.expanduser(image))
        if isinstance(image, torch.Tensor):
            image = _channels_last(image)
        if isinstance(image, np.ndarray):
            image = _from_array(image)
        if isinstance(image, Image.Image):
            image_limits().check_pixels(*image.size)
            return _from_pil(image)
        raise ValueError(f"its type is {type(image).__name__}, expected {KINDS}")
    except UnreadableImage as error:
        raise DataError(f"{error}.") from error
    except Exception as error:  # of PIL and torch, such as of a file that ends early
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise DataError(f"The image cannot be used: {kind}{str(error).rstrip('.')}.") from error


def _from_pil(image: Image.Image) -> Image.Image:
    if image.format == "TIFF":
        check_tiff(image)
    elif image.mode == "F":
        raise ValueError(f"floating-point values of a PIL image {NO_RANGE}")
    elif image.mode == "LAB":
        raise ValueError("L*a*b* colors are not converted: convert it to RGB")
    elif image.mode.startswith("I"):
        lowest, highest = image.getextrema()
        if lowest < 0 or highest >= 2**16:
            raise ValueError(f"32-bit values of a PIL image {NO_RANGE}")
        check_range(image)
    return upright_rgb(image)


def _channels_last(tensor: torch.Tensor) -> np.ndarray:
    """A tensor (c, h, w) or (h, w) as an array (h, w, c) or (h, w)."""
    if tensor.ndim == 3 and tensor.shape[0] not in (1, 3):
        raise ValueError(
            f"it is a tensor {tuple(tensor.shape)}, expected (3, h, w) or (1, h, w): channels come "
            "first in a tensor, last in a NumPy array"
        )
    tensor = tensor.detach().cpu()
    tensor = tensor.float() if tensor.is_floating_point() else tensor
    return (tensor.movedim(0, -1) if tensor.ndim == 3 else tensor).numpy()


def _from_array(values: np.ndarray) -> Image.Image:
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim != 2 and (values.ndim != 3 or values.shape[2] not in (3, 4)):
        last = values.ndim == 3 and values.shape[0] in (1, 3)
        advice = ": transpose it to (h, w, 3)" * last
        raise ValueError(f"it is an array {values.shape}, expected (h, w) or (h, w, 3){advice}")
    if values.dtype.kind == "f":
        if values.size and not (values.min() >= 0 and values.max() <= 1):  # NaN neither
            raise ValueError(
                f"its floating-point values are from {values.min():.3g} to {values.max():.3g}, "
                "expected 0 to 1, without normalization. Values from 0 to 255 must be uint8"
            )
        values = np.rint(255 * values).astype(np.uint8)
    if values.dtype != np.uint8:
        raise ValueError(
            f"its values are {values.dtype}, expected uint8, or floating-point values from 0 to 1"
        )
    return Image.fromarray(np.ascontiguousarray(values))
