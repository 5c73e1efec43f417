"""What prototypes select in many images: one pass, in memory that does not grow with them."""

import heapq
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..datasets.decode import UnreadableImage, read_image
from ..errors import DataError
from ..evaluation.batches import LoaderOptions, Network
from ..functional.dense import upsampled_best

# Groups are counted by size between these shares of an image: from a thousandth to all of it.
SIZE_EDGES = np.logspace(-3, 0, 19)
MOST_GROUPS = 40  # images with more groups are counted together


def group_count(number: int) -> str:
    """A number of groups in an image, as text."""
    return f"{number} or more" if number == MOST_GROUPS else str(number)


class WholeImages(Dataset):
    """Images that are scaled to one length of the short side, and not cut.

    An item is uint8 (3, h, w) RGB, or a text that says why the image is left out.

    Args:
        paths: the images.
        size: short side in pixels.
        max_long_side: images whose long side would be longer are left out; scores take memory
            proportional to it.
    """

    def __init__(self, paths: list[str], size: int, max_long_side: int):
        self.paths, self.size, self.max_long_side = paths, size, max_long_side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor | str:
        try:
            image = read_image(self.paths[index])
        except UnreadableImage as error:
            return str(error)
        long_side = round(max(image.size) * self.size / min(image.size))
        if long_side > self.max_long_side:
            return (
                f"{self.paths[index]} has {image.width} x {image.height} pixels: with a short side "
                f"of {self.size}, the long side would have {long_side}, which is more than "
                f"--max-long-side {self.max_long_side}"
            )
        return torch.from_numpy(np.array(scaled(image, self.size))).permute(2, 0, 1)


def scaled(
    image: Image.Image, short_side: float, resample: int = Image.Resampling.BILINEAR
) -> Image.Image:
    """The whole image, scaled to a length of the short side."""
    factor = short_side / min(image.size)
    return image.resize([max(round(side * factor), 1) for side in image.size], resample)


class Groups(NamedTuple):
    """The n groups of one image, the largest first."""

    assignment: np.ndarray  # (h, w) int, the prototype of each pixel
    prototypes: np.ndarray  # (n,) int
    shares: np.ndarray  # (n,) share of the image's pixels, 0-1
    similarities: np.ndarray  # (n,) mean cosine of the group's pixels with the prototype


def find_groups(scores_khw: Tensor, height: int, width: int) -> Groups:
    """Assign each pixel to its best prototype, with scores upsampled bilinearly.

    The similarity of a group is the mean cosine of its pixels, by which the published code orders
    images in its galleries.
    """
    best, winner = (t[0].cpu() for t in upsampled_best(scores_khw[None], height, width))
    pixels_k = torch.bincount(winner.flatten(), minlength=len(scores_khw)).double()
    sums_k = torch.zeros_like(pixels_k).index_add_(0, winner.flatten(), best.flatten().double())
    order = pixels_k.argsort(descending=True, stable=True)[: int((pixels_k > 0).sum())]
    shares_k, similarities_k = pixels_k / winner.numel(), sums_k / pixels_k
    parts = winner, order, shares_k[order], similarities_k[order]
    return Groups(*(part.numpy() for part in parts))


class Survey:
    """Counts over images, and the most similar images of each prototype.

    Args:
        num_prototypes: k.
        nearest: the number of images to keep for each.
        least_share: 0-1; images in which the group has a smaller share come after all others: very
            small groups are often the most similar ones, but show nothing.

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
    def most_groups(self) -> int:
        """The largest number of groups in an image, at most `MOST_GROUPS`."""
        return int(np.flatnonzero(self.groups).max(initial=1))

    def most_used(self, count: int | None = None) -> list[int]:
        """The most used prototypes in descending order, without unused ones; None: all."""
        order = np.argsort(-self._shares_k, kind="stable")[:count]
        return [int(k) for k in order if self._shares_k[k] > 0]

    def nearest_to(self, prototype: int) -> list[tuple[int, float]]:
        """(index, similarity) of the most similar images, in descending order."""
        ordered = sorted(self._nearest[prototype], reverse=True)
        return [(-index, float(similarity)) for _, similarity, index in ordered]


class ScoredImage(NamedTuple):
    """An image with its scores."""

    index: int
    pixels: np.ndarray  # (h, w, 3) uint8 RGB
    scores_khw: Tensor


def score_images(
    images: WholeImages, network: Network, loader: LoaderOptions, left_out: list[str]
) -> Iterator[ScoredImage]:
    """Read and score images one after another, with a progress bar.

    Args:
        images: the images.
        network: from images to cosine scores (1, k, h', w'), on the loader's device.
        loader: how images are loaded; the batch size is 1.
        left_out: receives the reason for each image that is left out.

    Raises:
        DataError: all images are left out.
    """
    load = DataLoader(images, batch_size=None, num_workers=loader.workers)
    with loader.progress_bar(len(images), "grouping") as bar:
        for index, image in enumerate(load):
            if isinstance(image, str):
                left_out.append(image)
            else:
                yield score_image(index, image, network, loader)
            bar.update(1)
    if len(left_out) == len(images):
        raise DataError(f"None of the {len(images)} images can be used. First: {left_out[0]}")


@torch.no_grad()
def score_image(
    index: int, image_3hw: Tensor, network: Network, loader: LoaderOptions
) -> ScoredImage:
    """Score one image; see `score_images`."""
    (scores_khw,) = network(image_3hw[None].to(loader.device))
    return ScoredImage(index, image_3hw.permute(1, 2, 0).numpy(), scores_khw)


def attention(
    scores_khw: Tensor, prototype: int, shape: tuple[int, int], temperature: float
) -> np.ndarray:
    """The share of each pixel that a prototype has: `softmax_k(s / τ)`, before it is normalized
    over the pixels; upsampled bilinearly to `shape`, (h, w) in [0, 1]."""
    share_hw = (scores_khw.float() / temperature).softmax(dim=0)[prototype]
    share_hw = torch.nn.functional.interpolate(share_hw[None, None], shape, mode="bilinear")
    return share_hw[0, 0].clamp(0, 1).cpu().numpy()
