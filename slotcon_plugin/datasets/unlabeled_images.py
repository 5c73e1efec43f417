"""A data set of unlabeled images that survives broken files."""

import warnings
from collections.abc import Callable, Iterable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from ..errors import DataError
from .decode import UnreadableImage, read_pixels
from .path_table import PathTable
from .seeding import Draw, draw_seeds
from .sources import Source, list_images
from .transforms import TwoViews

MOST_REPLACEMENTS = 32

ViewMaker = Callable[[np.ndarray, np.random.Generator], dict[str, Tensor]]


class UnreadableImageWarning(UserWarning):
    """One file could not be read and another image takes its place."""


class UnlabeledImages(Dataset):
    """Images without labels; an item is what `views` makes of one image.

    Args:
        source: a folder, a glob, a list file, or a sequence of these; with `preset` the data set's
            root. See `sources.list_images`.
        preset: None, "coco", "coco+" or "imagenet".
        list_root: what relative paths in list files start from; by default the list's own folder.
        views: called with an image, uint8 RGB (h, w, 3), and a generator, returns a dict of
            tensors; or arguments of `TwoViews` as a dict. By default the paper's `TwoViews()`.

    Indexed by a `Draw`, the item is a function of the draw alone. Indexed by a plain integer, the
    seed of the views comes from torch's: the DataLoader's base seed in a worker, else
    `torch.initial_seed()`.

    A file that cannot be read is marked, with one warning that names it, and not tried again;
    another image, chosen by the draw's seed, takes its place. The marks are in memory that all
    workers share.

    Raises:
        DataError: at construction, if a source is missing or empty; on indexing, if 32 images in
            a row cannot be read.
    """

    metainfo: ClassVar[dict] = {}  # MMEngine's loop looks for names of classes

    def __init__(
        self,
        source: Source | Iterable[Source],
        preset: str | None = None,
        list_root: Source | None = None,
        views: ViewMaker | dict | None = None,
    ):
        self.paths = PathTable(list_images(source, preset, list_root))
        self.views = _make_views(views)
        self.unreadable_mask = torch.zeros(len(self.paths), dtype=torch.uint8).share_memory_()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, draw: Draw | int) -> dict[str, Tensor]:
        index, seed = draw if isinstance(draw, tuple) else (int(draw), None)
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        if seed is None:
            seed = int(draw_seeds(_torch_seed(), 0, np.array(index)))
        return self.views(self._read(index, seed), np.random.default_rng(seed))

    @property
    def unreadable(self) -> list[str]:
        """The files found unreadable so far, by any worker of this process."""
        return [self.paths[i] for i in self.unreadable_mask.nonzero().flatten().tolist()]

    def _read(self, index: int, seed: int) -> np.ndarray:
        """The image, or the first readable one of those that the seed puts in its place."""
        replacement = np.random.default_rng((seed, 1))  # apart from the views' own numbers
        for _ in range(MOST_REPLACEMENTS):
            if not self.unreadable_mask[index]:
                try:
                    return read_pixels(self.paths[index])
                except UnreadableImage as error:
                    self.unreadable_mask[index] = 1
                    warnings.warn(f"{error}", UnreadableImageWarning, stacklevel=2)
            index = int(replacement.integers(len(self)))
        raise DataError(
            f"{MOST_REPLACEMENTS} images in a row could not be read, lastly {self.paths[index]}; "
            f"{int(self.unreadable_mask.sum())} of {len(self)} have failed so far. Is the data "
            "complete and readable for this user? The warnings above name each file and its fault."
        )


def _make_views(views: ViewMaker | dict | None) -> ViewMaker:
    if not isinstance(views, dict | None):
        return views
    arguments = dict(views or {})
    kind = arguments.pop("type", TwoViews)
    if kind is not TwoViews and kind != TwoViews.__name__:
        raise ValueError(
            f"views has type {kind!r}, expected a dict for 'TwoViews' or an object that is called "
            "with an image and a generator"
        )
    return TwoViews(**arguments)


def _torch_seed() -> int:
    worker = get_worker_info()
    return torch.initial_seed() if worker is None else worker.seed - worker.id
