"""What prototypes select in many images: one pass, in memory that does not grow with them."""

import heapq
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from ..datasets.decode import UnreadableImage, read_image
from ..errors import DataError
from ..evaluation.batches import LoaderOptions, Network
from ..evaluation.labeled_images import scaled_size
from ..functional.dense import upsampled_best

# Groups are counted by size between these shares of an image: from a thousandth to all of it.
SIZE_EDGES = np.logspace(-3, 0, 19)
MOST_GROUPS = 40  # images with more groups are counted together


def read_whole(path: str, size: int, max_long_side: int) -> Tensor | str:
    """A whole image, uint8 RGB (3, h, w), with a short side of `size` pixels.

    A text says why an image is left out, see `read_drawable`.
    """
    try:
        image = read_drawable(path, size, max_long_side)
    except UnreadableImage as error:
        return str(error)
    return to_input(image, size)


def to_input(image: Image.Image, size: int) -> Tensor:
    """A network's input, uint8 RGB (3, h, w): the whole image with a short side of `size`."""
    return torch.from_numpy(np.array(scaled(image, size))).permute(2, 0, 1)


def read_drawable(
    path: str, size: int, max_long_side: int, backend_args: dict | None = None
) -> Image.Image:
    """Read an image; it is unreadable too if its long side were above `max_long_side` at a short
    side of `size` pixels, because memory is proportional to the long side."""
    image = read_image(path, backend_args)
    try:
        check_long_side(image, size, max_long_side)
    except ValueError as error:
        reason = (
            f"{error}, or raise --max-long-side (in Python: max_long_side=), where there is one"
        )
        raise UnreadableImage(path, reason) from error
    return image


def check_long_side(image: Image.Image, size: int, most: int) -> None:
    """A ValueError if the long side were above `most` at a short side of `size` pixels."""
    long_side = max(scaled_size(image.size, size))
    if long_side > most:
        raise ValueError(
            f"it has {image.width} x {image.height} pixels; with a short side of {size}, the long "
            f"side would have {long_side}, more than {most}: cut it into parts, or take a smaller "
            "size"
        )


def scaled(
    image: Image.Image, short_side: float, resample: int = Image.Resampling.BILINEAR
) -> Image.Image:
    """The whole image, scaled to a length of the short side."""
    return image.resize(scaled_size(image.size, short_side), resample)


class Groups(NamedTuple):
    """The n groups of one image, the largest first."""

    assignment: np.ndarray  # (h, w) int, the prototype of each pixel
    prototypes: np.ndarray  # (n,) int
    shares: np.ndarray  # (n,) share of the image's pixels, 0-1
    similarities: np.ndarray  # (n,) mean cosine of the group's pixels with the prototype


def find_groups(scores_khw: Tensor, height: int, width: int) -> Groups:
    """Assign each pixel to its best prototype, with scores upsampled bilinearly.

    The published code orders the images of its galleries by the same similarity.
    """
    best, winner = (t[0].cpu() for t in upsampled_best(scores_khw[None], height, width))
    pixels_k = torch.bincount(winner.flatten(), minlength=len(scores_khw)).double()
    sums_k = torch.zeros_like(pixels_k).index_add_(0, winner.flatten(), best.flatten().double())
    order = pixels_k.argsort(descending=True, stable=True)[: int((pixels_k > 0).sum())]
    shares_k, similarities_k = pixels_k / winner.numel(), sums_k / pixels_k
    parts = winner, order, shares_k[order], similarities_k[order]
    return Groups(*(part.numpy() for part in parts))


class Survey:
    """Counts over images, and the `nearest` most similar images of each prototype.

    Images in which a group has a share below `least_share` (0-1) come after all others: very small
    groups are often the most similar ones, but show nothing.

    Attributes:
        images: the number of images.
        images_k: (k,) images in which a prototype has a group.
        sizes: counts of groups by size, between `SIZE_EDGES`; smaller ones are in the first.
        groups: counts of images by their number of groups, 0 to `MOST_GROUPS` or more.
    """

    def __init__(self, num_prototypes: int, nearest: int = 8, least_share: float = 0.01):
        self.images, self.nearest, self.least_share = 0, nearest, least_share
        self.images_k = np.zeros(num_prototypes, int)
        self.sizes = np.zeros(len(SIZE_EDGES) - 1, int)
        self.groups = np.zeros(MOST_GROUPS + 1, int)
        self._shares_k = np.zeros(num_prototypes)
        self._nearest: list[list] = [[] for _ in range(num_prototypes)]

    def add(self, index: int, groups: Groups) -> None:
        """Count an image; `index` is its number in the results of `nearest_to`."""
        self.images += 1
        self._shares_k[groups.prototypes] += groups.shares
        self.images_k[groups.prototypes] += 1
        self.sizes += np.histogram(groups.shares.clip(SIZE_EDGES[0], 1), SIZE_EDGES)[0]
        self.groups[min(len(groups.prototypes), MOST_GROUPS)] += 1
        for k, share, similarity in zip(*groups[1:], strict=True):
            heap = self._nearest[k]
            # Of equally similar images the earlier one comes first.
            heapq.heappush(heap, (share >= self.least_share, similarity, -index))
            if len(heap) > self.nearest:
                heapq.heappop(heap)

    @property
    def usage(self) -> np.ndarray:
        """(k,) share of the pixels, the mean over images."""
        return self._shares_k / max(self.images, 1)

    @property
    def group_counts(self) -> dict[str, int]:
        """Images with "1", "2", … groups, up to the largest number, at most "40 or more"."""
        largest = int(np.flatnonzero(self.groups).max(initial=1))
        numbers = [*map(str, range(1, MOST_GROUPS)), f"{MOST_GROUPS} or more"]
        return dict(zip(numbers[:largest], self.groups[1:].tolist()))

    def most_used(self, count: int | None = None) -> list[int]:
        """The most used prototypes in descending order, without unused ones; None: all."""
        order = np.argsort(-self._shares_k, kind="stable")[:count]
        return [int(k) for k in order if self._shares_k[k] > 0]

    def nearest_to(self, prototype: int) -> list[tuple[int, float]]:
        """(index, similarity) of the most similar images, in descending order."""
        ordered = sorted(self._nearest[prototype], reverse=True)
        return [(-index, float(similarity)) for _, similarity, index in ordered]


def read_each(
    paths: list[str], read: Callable, loader: LoaderOptions, title: str, left_out: list[str]
) -> Iterator[tuple[int, Tensor]]:
    """Number and pixels of each image that `read` (see `read_whole`) can read; the reasons for the
    others are added to `left_out`.

    A DataError if all are left out.
    """
    # Without batches, a loader process calls collate_fn with one item. With its own generator, the
    # loader does not advance the user's.
    options = dict(batch_size=None, num_workers=loader.processes, generator=torch.Generator())
    with loader.progress_bar(len(paths), title) as bar:
        for index, image in enumerate(DataLoader(paths, collate_fn=read, **options)):
            if isinstance(image, str):
                left_out.append(image)
            else:
                yield index, image
            bar.update(1)
    if len(left_out) == len(paths):
        raise DataError(f"None of the {len(paths)} images can be used. First: {left_out[0]}")


class ScoredImages:
    """Reads images with `read` (see `read_whole`), and scores them on the loader's device.

    Iterating gives (index, pixels, scores): uint8 RGB (h, w, 3) and cosines (k, h', w'). `left_out`
    has the reason for each image that was left out.
    """

    def __init__(self, paths: list[str], read: Callable, network: Network, loader: LoaderOptions):
        self.paths, self.read, self.network, self.loader = paths, read, network, loader
        self.left_out: list[str] = []

    def __iter__(self) -> Iterator[tuple[int, np.ndarray, Tensor]]:
        for index, image in read_each(
            self.paths, self.read, self.loader, "grouping", self.left_out
        ):
            yield index, *self._score(image)

    def again(self, index: int) -> tuple[np.ndarray, Tensor] | None:
        """Pixels and scores of one image; None if its file was removed or changed meanwhile."""
        image = self.read(self.paths[index])
        if isinstance(image, str):
            self.left_out.append(image)
            return None
        return self._score(image)

    @torch.no_grad()
    def _score(self, image: Tensor) -> tuple[np.ndarray, Tensor]:
        (scores_khw,) = self.network(image[None].to(self.loader.device))
        return image.permute(1, 2, 0).numpy(), scores_khw


def attention(
    scores_khw: Tensor, prototype: int, shape: tuple[int, int], temperature: float
) -> np.ndarray:
    """The share of each pixel that a prototype has: `softmax_k(s / τ)`, before it is normalized
    over the pixels; upsampled bilinearly to `shape`, (h, w) in [0, 1]."""
    share_hw = (scores_khw.float() / temperature).softmax(dim=0)[prototype]
    share_hw = torch.nn.functional.interpolate(share_hw[None, None], shape, mode="bilinear")
    return share_hw[0, 0].clamp(0, 1).cpu().numpy()
