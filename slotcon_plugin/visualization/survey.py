"""What the prototypes gather in many images: one pass, in memory that does not grow with them."""

import heapq
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..datasets.decode import UnreadableImage, read_image
from ..errors import DataError
from ..evaluation.batches import LoaderOptions
from ..functional.dense import upsampled_best

Scores = Callable[[Tensor], Tensor]  # uint8 images (b, 3, h, w) to cosine scores (b, k, h', w')

# Shares of an image between which groups are counted by size: a thousandth to all of it.
SIZE_EDGES = np.logspace(-3, 0, 19)
MOST_GROUPS = 40  # images with more groups are counted together


def how_many(groups: int) -> str:
    """A number of groups in an image as it is shown."""
    return f"{groups} or more" if groups == MOST_GROUPS else str(groups)


class WholeImages(Dataset):
    """Images as they are, scaled so that the short side has `size` pixels.

    An item is uint8 (3, h, w) RGB; for a file that cannot be read, the reason as a text.
    """

    def __init__(self, paths: list[str], size: int):
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor | str:
        try:
            image = read_image(self.paths[index])
        except UnreadableImage as error:
            return str(error)
        return torch.from_numpy(np.array(scaled(image, self.size))).permute(2, 0, 1)


def scaled(image: Image.Image, short_side: int) -> Image.Image:
    """The whole image with a short side of so many pixels."""
    factor = short_side / min(image.size)
    size = [max(round(side * factor), 1) for side in image.size]
    return image.resize(size, Image.Resampling.BILINEAR)


class Groups(NamedTuple):
    """The groups of one image, the largest first; n of them."""

    assignment: np.ndarray  # (h, w) int, the prototype of each pixel
    prototypes: np.ndarray  # (n,) int
    shares: np.ndarray  # (n,) share of the image's pixels, 0-1
    similarities: np.ndarray  # (n,) mean cosine of the group's pixels with the prototype


def group(scores_khw: Tensor, height: int, width: int) -> Groups:
    """Give each pixel to its best prototype, the scores resampled bilinearly.

    How near a group is to its prototype is the mean cosine of the group's pixels, as the published
    code ranks images in its galleries.
    """
    best, winner = (t[0].cpu() for t in upsampled_best(scores_khw[None], height, width))
    pixels_k = torch.bincount(winner.flatten(), minlength=len(scores_khw)).double()
    sums_k = torch.zeros_like(pixels_k).index_add_(0, winner.flatten(), best.flatten().double())
    order = pixels_k.argsort(descending=True, stable=True)[: int((pixels_k > 0).sum())]
    return Groups(
        winner.numpy(),
        order.numpy(),
        (pixels_k / winner.numel())[order].numpy(),
        (sums_k / pixels_k)[order].numpy(),
    )


class Survey:
    """Counts over images, and for each prototype the nearest images.

    Args:
        num_prototypes: k.
        nearest: images to remember for each.
        least_share: 0-1; images of which a group has less come after all others: specks are
            often the nearest, and show nothing.

    Attributes:
        images: how many were added.
        usage_k: (k,) sum over images of the share of the pixels, see `usage`.
        images_k: (k,) images in which a prototype has a group.
        sizes: counts of groups by size, between `SIZE_EDGES`; smaller ones are in the first.
        groups: counts of images by their number of groups, 0 to `MOST_GROUPS` or more.
    """

    def __init__(self, num_prototypes: int, nearest: int = 8, least_share: float = 0.01):
        self.images, self.nearest, self.least_share = 0, nearest, least_share
        self.usage_k = np.zeros(num_prototypes)
        self.images_k = np.zeros(num_prototypes, int)
        self.sizes = np.zeros(len(SIZE_EDGES) - 1, int)
        self.groups = np.zeros(MOST_GROUPS + 1, int)
        self._nearest: list[list] = [[] for _ in range(num_prototypes)]

    def add(self, index: int, found: Groups) -> None:
        """Count one image; `index` is what `nearest_to` gives back."""
        self.images += 1
        self.usage_k[found.prototypes] += found.shares
        self.images_k[found.prototypes] += 1
        self.sizes += np.histogram(found.shares.clip(SIZE_EDGES[0], 1), SIZE_EDGES)[0]
        self.groups[min(len(found.prototypes), MOST_GROUPS)] += 1
        for k, share, similarity in zip(*found[1:], strict=True):
            heap = self._nearest[k]
            # Of equally near ones the earlier comes first.
            heapq.heappush(heap, (share >= self.least_share, similarity, -index))
            if len(heap) > self.nearest:
                heapq.heappop(heap)

    @property
    def usage(self) -> np.ndarray:
        """(k,) share of the pixels, the mean over images."""
        return self.usage_k / max(self.images, 1)

    def most_used(self, count: int) -> list[int]:
        """Prototypes by usage, the most used first; unused ones are left out."""
        order = np.argsort(-self.usage_k, kind="stable")[:count]
        return [int(k) for k in order if self.usage_k[k] > 0]

    def nearest_to(self, prototype: int) -> list[tuple[int, float]]:
        """Index and similarity of the nearest images, the nearest first; those of which the group
        has less than `least_share` at the end."""
        ordered = sorted(self._nearest[prototype], reverse=True)
        return [(-index, float(similarity)) for _, similarity, index in ordered]


class Seen(NamedTuple):
    """An image that was read, and its scores."""

    index: int
    pixels: np.ndarray  # (h, w, 3) uint8 RGB
    scores_khw: Tensor


def look_at(
    paths: list[str], scores: Scores, size: int, reading: LoaderOptions, unreadable: list[str]
) -> Iterator[Seen]:
    """Read images one after another and score them, with a bar.

    Args:
        paths: the images.
        scores: the network, on the reading's device.
        size: pixels of the short side.
        reading: who reads, and where the network is.
        unreadable: receives why an image is left out.

    Raises:
        DataError: none can be read.
    """
    loader = DataLoader(WholeImages(paths, size), batch_size=None, num_workers=reading.workers)
    with reading.progress_bar(len(paths), "grouping", "image") as bar:
        for index, image in enumerate(loader):
            if isinstance(image, str):
                unreadable.append(image)
            else:
                (scores_khw,) = scores(image[None].to(reading.device))
                yield Seen(index, image.permute(1, 2, 0).numpy(), scores_khw)
            bar.update(1)
    if len(unreadable) == len(paths):
        raise DataError(f"None of the {len(paths)} images can be read. First: {unreadable[0]}")


def attention(scores_khw: Tensor, prototype: int, shape: tuple[int, int], temperature: float):
    """How much of each pixel goes to a prototype: `softmax_k(s / τ)`, before it is normalized over
    the pixels, resampled bilinearly. (h, w) float in [0, 1]."""
    share_hw = (scores_khw.float() / temperature).softmax(dim=0)[prototype]
    share_hw = torch.nn.functional.interpolate(share_hw[None, None], shape, mode="bilinear")
    return share_hw[0, 0].clamp(0, 1).cpu().numpy()
