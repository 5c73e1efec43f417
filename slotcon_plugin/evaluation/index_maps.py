"""Reads label maps, images whose pixel values are numbers of classes, and samples of them."""

import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from PIL import Image

from ..datasets.decode import UnreadableImage, read_size, read_unconverted
from ..errors import DataError, UnreadableFileError
from ..runtime.launch import cores_each
from ..runtime.regular_files import printable

Result = TypeVar("Result")


def read_index_map(path: str, colors: bool = False) -> np.ndarray:
    """The pixel values of a label map, integer (h, w), or with `colors` uint8 (h, w, 3).

    A palette is ignored: its indices are the values. A file with color channels, fractions, or JPEG
    compression, which changes values, is an UnreadableFileError.
    """
    try:
        image = read_unconverted(path)
        values = np.asarray(image.convert("RGB") if colors else image)
    except UnreadableImage as error:
        message = f"The labels {printable(str(path))} cannot be read: {error.reason}"
        raise UnreadableFileError(message) from error
    mode = image.mode
    if image.format == "JPEG":
        found, advice = "are a JPEG file", "JPEG changes values: write PNG from the original maps."
    elif mode not in ("1", "L", "P", "I") and not mode.startswith("I;16") and not colors:
        found = f"have the mode {mode}"
        advice = "Convert color-coded maps to the numbers of the classes first."
    else:
        return values.astype(np.uint8) if mode == "1" else values
    raise UnreadableFileError(
        f"The labels {printable(str(path))} {found}, expected an image with one channel, the "
        f"number of a class in each pixel. {advice}"
    )


def values_in(image: np.ndarray | Image.Image) -> set[int]:
    """The different values of an image or array of integers."""
    values = np.asarray(image)
    if values.dtype == np.uint8:
        return set(np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist())
    return set(np.unique(values).tolist())


def upright_size(path: str) -> tuple[int, int] | None:
    """Width and height of an image as it is shown, from its header; None if there is none."""
    if not os.path.isfile(path):  # opening a pipe would wait for ever
        raise DataError(f"The image {printable(path)} is missing, or no regular file.")
    try:
        return read_size(path)
    except UnreadableImage:  # who reads the image explains it
        return None


def sample(read: Callable[[int], Result], count: int, most: int, seconds: float) -> list[Result]:
    """What `read` returns for at most `most` of the numbers below `count`, read in threads.

    The numbers are random, the same in each call; all of them if they are few. After `seconds` no
    further one is read. The first error is raised.
    """
    numbers = random.Random(0).sample(range(count), min(count, most))
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(min(cores_each(), 8)) as pool:
        found = pool.map(lambda i: (read(i),) if time.monotonic() < end else (), numbers)
        return [result for results in found for result in results]
