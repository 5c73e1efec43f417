"""A pretrained network to use from Python: groups and features of images of any kind."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..datasets.given_images import GivenImage, listed_images, read_given
from ..errors import CheckpointError, DataError
from ..evaluation.batches import choose_device
from ..evaluation.networks import DecodedMap, DenseFeatures, PixelGroups
from ..runtime.config_rules import check_value, whole
from ..visualization.contact_sheet import png_bytes
from ..visualization.painting import overlay
from ..visualization.survey import check_long_side, find_groups, to_input

MAX_LONG_SIDE = 4096  # pixels of a network's input
MOST_PIXELS = 2**21  # for which the best prototype is computed; larger images repeat them
LONGEST_SHOWN = 640  # pixels, in a notebook

Images = GivenImage | Iterable[GivenImage]


@dataclass(frozen=True, repr=False)
class ImageGroups:
    """The groups of an image of h x w pixels, as NumPy arrays.

    Attributes:
        image: the image, upright, uint8 RGB (h, w, 3).
        assignment: (h, w) int64, the prototype of each pixel: the one of the largest score, after
            the scores were interpolated bilinearly.
        scores: (k, h', w') float32, the cosine of every prototype with each cell of the network's
            map, in [-1, 1].
        slots: (k, d) float32, the feature that each prototype gathers in the image; of a prototype
            that no pixel is assigned to it means nothing.
        prototypes: (n,) those with at least one pixel, the largest group first.
        shares: (n,) their shares of the image's pixels, 0-1.
    """

    image: np.ndarray
    assignment: np.ndarray
    scores: np.ndarray
    slots: np.ndarray
    prototypes: np.ndarray
    shares: np.ndarray

    def plot(self) -> Image.Image:
        """The groups painted over the image in gray; prototype 17 always has the same color."""
        return Image.fromarray(overlay(self.image, self.assignment))

    def __repr__(self) -> str:
        height, width = self.assignment.shape
        largest = [f"{k} ({share:.0%})" for k, share in zip(self.prototypes[:4], self.shares)]
        rest = ", …" * (len(self.prototypes) > 4)
        return (
            f"ImageGroups of {width} x {height} pixels: {len(self.prototypes)} of "
            f"{len(self.slots)} prototypes, {', '.join(largest)}{rest}"
        )

    def _repr_png_(self) -> bytes:
        shown = self.plot()
        shown.thumbnail((LONGEST_SHOWN, LONGEST_SHOWN))
        return png_bytes(shown)


class ImageFeatures(NamedTuple):
    """The features of an image, as NumPy arrays: `dense, pooled = model.features(image)`."""

    dense: np.ndarray  # (c, h', w') float32, the network's map
    pooled: np.ndarray  # (c,) float32, its mean over the cells

    def __repr__(self) -> str:
        return f"ImageFeatures: dense {self.dense.shape}, pooled {self.pooled.shape}"


class SlotConModel:
    """An encoder with its projector and prototypes, frozen, in evaluation mode; see `load.load`.

    Images are what `datasets.given_images.KINDS` says, one or a list (or a batch of four axes) of
    any sizes; a list gives a list. Each is read as in training and in slotcon visualize: upright,
    8-bit RGB, transparent parts white; then the whole image is scaled, without change of its
    proportions, to a short side of `size` pixels, and normalized as in the training.

    Attributes:
        network: the torch module, `DenseFeatures` (an encoder) or `PixelGroups`, from uint8 RGB
            images (b, 3, h, w) to features or scores.
        origin: what it is, in words.
        decoded: whether `features` has the map of the decoder's level whose groups these are,
            instead of the encoder's.
    """

    def __init__(
        self,
        network: PixelGroups | DenseFeatures,
        device: str | None = None,
        decoded: bool = False,
    ) -> None:
        self.device, self.decoded = choose_device(device), decoded
        self.network = network.eval().to(self.device)
        self.origin = network.origin

    @property
    def encoder(self) -> torch.nn.Module:
        """The encoder alone: from normalized images to maps."""
        net = self._features.encoder
        return net.encoder if isinstance(net, DecodedMap) else net

    @property
    def num_prototypes(self) -> int:
        """K; 0 of an encoder alone."""
        return len(self.network.prototypes_kd) if isinstance(self.network, PixelGroups) else 0

    def groups(self, images: Images, size: int = 320) -> ImageGroups | list[ImageGroups]:
        """Assign each pixel of an image to a prototype, and pool its slots.

        Raises:
            DataError: an image cannot be read, is of another kind or too long.
            CheckpointError: the network is an encoder alone, without prototypes.
        """
        if not self.num_prototypes:
            raise CheckpointError(
                f"{self.origin} is an encoder without projector and prototypes: load a full "
                "checkpoint of a pretraining for groups. features() works."
            )
        return self._each(images, size, self._groups)

    def features(
        self, images: Images, size: int = 320, projected: bool = False
    ) -> ImageFeatures | list[ImageFeatures]:
        """The encoder's last map and its mean; with `projected`, the projector's, of the groups.

        Raises:
            DataError: an image cannot be read, is of another kind or too long.
            CheckpointError: `projected`, of an encoder alone.
        """
        network = self.dense_network(projected)

        def read(image: Image.Image, pixels: Tensor) -> ImageFeatures:
            dense_chw = network(pixels)[0].float()
            return ImageFeatures(dense_chw.cpu().numpy(), dense_chw.mean(dim=(1, 2)).cpu().numpy())

        return self._each(images, size, read)

    def dense_network(self, projected: bool = False) -> Callable[[Tensor], Tensor]:
        """From uint8 RGB images (b, 3, h, w) to the features that `features` returns."""
        if projected and not self.num_prototypes:
            raise CheckpointError(f"{self.origin} is an encoder without projector.")
        features = self._features
        return features if projected else partial(features.encode, decoded=self.decoded)

    @property
    def _features(self) -> DenseFeatures:
        return self.network.features if self.num_prototypes else self.network

    def _each(self, images: Images, size: int, read: Callable) -> list | object:
        check_value("size", size, whole(32))  # a smaller image has no cell at stride 32
        found = listed_images(images)
        results = [read(*self._input(one, size)) for one in ([images] if found is None else found)]
        return results[0] if found is None else results

    def _input(self, given: GivenImage, size: int) -> tuple[Image.Image, Tensor]:
        image = read_given(given)
        try:
            check_long_side(image, size, MAX_LONG_SIDE)
        except ValueError as error:
            name = f" {given}" * isinstance(given, str | os.PathLike)
            raise DataError(f"The image{name} cannot be used: {error}.") from error
        return image, to_input(image, size)[None].to(self.device)

    @torch.no_grad()
    def _groups(self, image: Image.Image, pixels: Tensor) -> ImageGroups:
        (scores_khw,), (slots_kd,) = self.network.slots(pixels)
        scale = min(1, (MOST_PIXELS / (image.width * image.height)) ** 0.5)
        found = find_groups(scores_khw, *(max(round(scale * s), 1) for s in image.size[::-1]))
        assignment = found.assignment
        if scale < 1:
            small = Image.fromarray(assignment.astype(np.int32))
            assignment = np.asarray(small.resize(image.size, Image.Resampling.NEAREST), np.int64)
        arrays = (part.float().cpu().numpy() for part in (scores_khw, slots_kd))
        return ImageGroups(np.asarray(image), assignment, *arrays, *found[1:3])

    def __repr__(self) -> str:
        prototypes = f"{self.num_prototypes} prototypes, " * bool(self.num_prototypes)
        return f"SlotConModel({self.origin}: {prototypes}on {self.device})"
