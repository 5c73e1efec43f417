"""A dataset of unlabeled images in which unreadable files are replaced."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

import numpy as np
import torch
from mmengine.registry import TRANSFORMS
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import DataError
from ..runtime.regular_files import printable
from .decode import READ_SECONDS, UnreadableImage, image_limits, read_pixels
from .path_table import PathTable
from .seeding import Draw, SeededIndex, fresh_seed
from .sources import Source, list_images
from .transforms import TwoViews

MAX_READ_ATTEMPTS = 32
MAX_TIMEOUTS = 2

ViewTransform = Callable[[np.ndarray, np.random.Generator], dict[str, Tensor]]


class UnreadableImageWarning(UserWarning):
    """A file cannot be read and is replaced by another image."""


class UnlabeledImages(Dataset):
    """Images without labels; an item is what the transform `views` returns for one image.

    Args:
        source, preset, list_root, backend_args: see `sources.list_images`.
        views: a transform that is called with an image, uint8 RGB (h, w, 3), and a NumPy generator
            of random numbers, and returns a dict of tensors; or the config of one in MMEngine's
            registry TRANSFORMS, whose `type` is "TwoViews" by default.

    An index is a `Draw` of `ImageSampler` or a `SeededIndex` of `EndlessSampler`: the same draw
    always gives the same item. The views of an integer are new at every access.

    A file that cannot be read is reported by one warning and not opened again. Another image, which
    the draw's seed determines, replaces it. Workers share the list of these files. It is a
    DataError if 32 images in a row cannot be read, or if 2 of them take too long: then the file
    system hangs.
    """

    metainfo: ClassVar[dict] = {}  # MMEngine's training loop reads it

    def __init__(
        self,
        source: Source | Iterable[Source],
        preset: str | None = None,
        list_root: Source | None = None,
        views: ViewTransform | dict | None = None,
        backend_args: dict | None = None,
    ):
        image_limits()  # wrong values are found before the first image
        self.backend_args = backend_args
        found = list_images(source, preset, list_root, backend_args=backend_args)
        self.paths = PathTable(found)
        if views is None or isinstance(views, dict):
            views = TRANSFORMS.build(views or {}, default_args={"type": TwoViews})
        if not callable(views):
            raise ValueError(f"views is {views!r}, expected a transform or its config.")
        self.views: ViewTransform = views
        self.unreadable_mask = torch.zeros(len(self.paths), dtype=torch.uint8).share_memory_()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, draw: Draw | SeededIndex | int) -> dict[str, Tensor]:
        index, seed = draw if isinstance(draw, tuple) else (int(draw), getattr(draw, "seed", None))
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        if seed is None:
            seed = fresh_seed(index)
        return self.views(self.read(index, seed), np.random.default_rng(seed))

    @property
    def unreadable(self) -> list[str]:
        """The files found unreadable so far, by this process or its workers."""
        return [self.paths[i] for i in self.unreadable_mask.nonzero().flatten().tolist()]

    def read(self, first: int, seed: int) -> np.ndarray:
        """The whole image, uint8 RGB (h, w, 3), or a readable one that the seed determines."""
        timeouts = 0
        for index in self._candidates(first, seed):
            if not self.unreadable_mask[index]:
                try:
                    return read_pixels(self.paths[index], self.backend_args)
                except UnreadableImage as error:
                    self.unreadable_mask[index] = 1
                    warnings.warn(f"{error}", UnreadableImageWarning, stacklevel=2)
                    timeouts += isinstance(error.__cause__, TimeoutError)
                    if timeouts == MAX_TIMEOUTS:
                        raise DataError(
                            f"{MAX_TIMEOUTS} images in a row took longer than {READ_SECONDS}="
                            f"{image_limits().seconds:g}: {error}. Is the file system reachable?"
                        ) from error
        raise DataError(
            f"{MAX_READ_ATTEMPTS} images in a row could not be read, the last one is "
            f"{printable(self.paths[index])}; {len(self.unreadable)} of {len(self)} have failed "
            "so far. Check that the data is complete and readable: the warnings above name the "
            "causes."
        )

    def _candidates(self, first: int, seed: int) -> Iterator[int]:
        yield first
        replacement = np.random.default_rng((seed, 1))  # not the random numbers of the views
        for _ in range(MAX_READ_ATTEMPTS - 1):
            yield int(replacement.integers(len(self)))
