"""What the prototypes gather in many pictures: one pass, in memory that does not grow with them."""

import heapq
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..data.decode import UnreadablePicture, read_picture
from ..errors import DataError
from ..evaluation.batches import Reading
from ..functional.dense import upsampled_best

Scores = Callable[[Tensor], Tensor]  # uint8 pictures (b, 3, h, w) to cosine scores (b, k, h', w')

# Shares of a picture between which groups are counted by size: a thousandth to all of it.
SIZE_EDGES = np.logspace(-3, 0, 19)
MOST_GROUPS = 40  # pictures with more groups are counted together


def how_many(groups: int) -> str:
    """A number of groups in a picture as it is shown."""
    return f"{groups} or more" if groups == MOST_GROUPS else str(groups)


class WholePictures(Dataset):
    """Pictures as they are, scaled so that the short side has `size` pixels.

    An item is uint8 (3, h, w) RGB; for a file that cannot be read, the reason as a text.
    """

    def __init__(self, paths: list[str], size: int):
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor | str:
        try:
            picture = read_picture(self.paths[index])
        except UnreadablePicture as error:
            return str(error)
        return torch.from_numpy(np.array(scaled(picture, self.size))).permute(2, 0, 1)


def scaled(picture: Image.Image, short_side: int) -> Image.Image:
    """The whole picture with a short side of so many pixels."""
    factor = short_side / min(picture.size)
    size = [max(round(side * factor), 1) for side in picture.size]
    return picture.resize(size, Image.Resampling.BILINEAR)


class Groups(NamedTuple):
    """The groups of one picture, the largest first; n of them."""

    assignment: np.ndarray  # (h, w) int, the prototype of each pixel
    prototypes: np.ndarray  # (n,) int
    shares: np.ndarray  # (n,) share of the picture's pixels, 0-1
    similarities: np.ndarray  # (n,) mean cosine of the group's pixels with the prototype


def group(scores_khw: Tensor, height: int, width: int) -> Groups:
    """Give each pixel to its best prototype, the scores resampled bilinearly.

    How near a group is to its prototype is the mean cosine of the group's pixels, as the published
    code ranks pictures in its galleries.
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
    """Counts over pictures, and for each prototype the nearest pictures.

    Args:
        num_prototypes: k.
        nearest: pictures to remember for each.
        least_share: 0-1; pictures of which a group has less come after all others: specks are
            often the nearest, and show nothing.

    Attributes:
        pictures: how many were added.
        usage_k: (k,) sum over pictures of the share of the pixels, see `usage`.
        pictures_k: (k,) pictures in which a prototype has a group.
        sizes: counts of groups by size, between `SIZE_EDGES`; smaller ones are in the first.
        groups: counts of pictures by their number of groups, 0 to `MOST_GROUPS` or more.
    """

    def __init__(self, num_prototypes: int, nearest: int = 8, least_share: float = 0.01):
        self.pictures, self.nearest, self.least_share = 0, nearest, least_share
        self.usage_k = np.zeros(num_prototypes)
        self.pictures_k = np.zeros(num_prototypes, int)
        self.sizes = np.zeros(len(SIZE_EDGES) - 1, int)
        self.groups = np.zeros(MOST_GROUPS + 1, int)
        self._nearest: list[list] = [[] for _ in range(num_prototypes)]

    def add(self, index: int, found: Groups) -> None:
        """Count one picture; `index` is what `nearest_to` gives back."""
        self.pictures += 1
        self.usage_k[found.prototypes] += found.shares
        self.pictures_k[found.prototypes] += 1
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
        """(k,) share of the pixels, the mean over pictures."""
        return self.usage_k / max(self.pictures, 1)

    def most_used(self, count: int) -> list[int]:
        """Prototypes by usage, the most used first; unused ones are left out."""
        order = np.argsort(-self.usage_k, kind="stable")[:count]
        return [int(k) for k in order if self.usage_k[k] > 0]

    def nearest_to(self, prototype: int) -> list[tuple[int, float]]:
        """Index and similarity of the nearest pictures, the nearest first; those of which the group
        has less than `least_share` at the end."""
        ordered = sorted(self._nearest[prototype], reverse=True)
        return [(-index, float(similarity)) for _, similarity, index in ordered]


class Seen(NamedTuple):
    """A picture that was read, and its scores."""

    index: int
    pixels: np.ndarray  # (h, w, 3) uint8 RGB
    scores_khw: Tensor


def look_at(
    paths: list[str], scores: Scores, size: int, reading: Reading, unreadable: list[str]
) -> Iterator[Seen]:
    """Read pictures one after another and score them, with a bar.

    Args:
        paths: the pictures.
        scores: the network, on the reading's device.
        size: pixels of the short side.
        reading: who reads, and where the network is.
        unreadable: receives why a picture is left out.

    Raises:
        DataError: none can be read.
    """
    loader = DataLoader(WholePictures(paths, size), batch_size=None, num_workers=reading.workers)
    with reading.bar(len(paths), "grouping", "picture") as bar:
        for index, picture in enumerate(loader):
            if isinstance(picture, str):
                unreadable.append(picture)
            else:
                (scores_khw,) = scores(picture[None].to(reading.device))
                yield Seen(index, picture.permute(1, 2, 0).numpy(), scores_khw)
            bar.update(1)
    if len(unreadable) == len(paths):
        raise DataError(f"None of the {len(paths)} pictures can be read. First: {unreadable[0]}")


def attention(scores_khw: Tensor, prototype: int, shape: tuple[int, int], temperature: float):
    """How much of each pixel goes to a prototype: `softmax_k(s / τ)`, before it is normalised over
    the pixels, resampled bilinearly. (h, w) float in [0, 1]."""
    share_hw = (scores_khw.float() / temperature).softmax(dim=0)[prototype]
    share_hw = torch.nn.functional.interpolate(share_hw[None, None], shape, mode="bilinear")
    return share_hw[0, 0].clamp(0, 1).cpu().numpy()
