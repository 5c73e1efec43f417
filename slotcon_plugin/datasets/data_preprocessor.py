"""The data preprocessor: from a collated batch to the model's arguments on its device."""

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from ..functional.alignment import ViewGeometry
from .photometric import IMAGENET_MEAN, IMAGENET_STD, augment, normalize, to_unit_range


def check_statistics(mean: object, std: object) -> None:
    """A ValueError unless mean and std can be those of RGB channels in the units of 0-1 pixels."""
    for name, values, least, most in (("mean", mean, 0, 1), ("std", std, 1 / 255, 2)):
        if (
            not isinstance(values, list | tuple)
            or len(values) != 3
            or not all(type(v) in (int, float) and least <= v <= most for v in values)
        ):
            raise ValueError(
                f"{name} is {values!r}, expected three numbers from {least:.2g} to {most}, one for "
                "each of R, G, B, in the units of 0-1 pixels: divide values for 0-255 by 255"
            )


class TwoViewPreprocessor(BaseDataPreprocessor):
    """Apply the color operations of `TwoViews` to the views and normalize them.

    Args:
        mean, std: of each channel, RGB, in the units of 0-1 pixels. Other units are refused.
        non_blocking: do not wait for the transfer to the device.
    """

    def __init__(
        self,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        non_blocking: bool = True,
    ):
        super().__init__(non_blocking)
        check_statistics(mean, std)
        self.register_buffer("mean_c", torch.tensor(mean), persistent=False)
        self.register_buffer("std_c", torch.tensor(std), persistent=False)

    @torch.no_grad()
    def forward(self, data: dict, training: bool = False) -> dict:
        """Make `inputs` and `data_samples` of a collated batch; colors change only in training.

        From a batch of `TwoViews` (`views` uint8 (b, 2, 3, s, s), `boxes` (b, 2, 4), `flips`
        (b, 2), and `photometric` (b, 2, p) on the CPU): [view 1, view 2], each float32
        (b, 3, s, s), and their `ViewGeometry`. From a dict with only `inputs`, uint8 (b, 3, h, w)
        or a list of (3, h, w) of one size: float32 (b, 3, h, w), and None.
        """
        if "views" not in data:
            images = data["inputs"]
            sizes = {tuple(image.shape) for image in images}
            if len(sizes) > 1:
                raise ValueError(
                    f"the images have the sizes {sorted(sizes)}, expected one size for all: resize "
                    "them, or pass them one at a time"
                )
            pixels = images if isinstance(images, Tensor) else torch.stack(list(images))
            pixels = normalize(to_unit_range(self._send(pixels)), self.mean_c, self.std_c)
            return {"inputs": pixels, "data_samples": None}
        views = data["views"]
        if not isinstance(views, Tensor):
            raise TypeError(
                f"views are a {type(views).__name__}, expected one tensor (b, 2, 3, s, s): set "
                "collate_fn=dict(type='default_collate') in the dataloader"
            )
        pixels = self._send(views).transpose(0, 1).flatten(0, 1)  # (2b, 3, s, s), view 1 first
        if training:
            pixels = augment(pixels, data["photometric"].transpose(0, 1).flatten(0, 1))
        else:
            pixels = to_unit_range(pixels)
        boxes, flips = (self._send(data[name]).transpose(0, 1) for name in ("boxes", "flips"))
        views = list(normalize(pixels, self.mean_c, self.std_c).chunk(2))
        return {"inputs": views, "data_samples": ViewGeometry(boxes, flips)}

    def _send(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.mean_c.device, non_blocking=self._non_blocking)
