"""From a collated batch to the model's arguments, on the model's device."""

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from ..functional.alignment import ViewGeometry
from .photometric import IMAGENET_MEAN, IMAGENET_STD, augment, normalize, to_unit_range


class TwoViewPreprocessor(BaseDataPreprocessor):
    """Change the views' colors as their parameters say, and normalize them.

    Args:
        mean, std: for each channel, RGB, in the units of 0-1 pixels.
        non_blocking: do not wait for the transfer to the device.
    """

    def __init__(
        self,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        non_blocking: bool = True,
    ):
        super().__init__(non_blocking)
        self.register_buffer("mean_c", torch.tensor(mean), persistent=False)
        self.register_buffer("std_c", torch.tensor(std), persistent=False)

    @torch.no_grad()
    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare one batch.

        Args:
            data: either a collated batch of `TwoViews`, tensors with `views` uint8 (b, 2, 3, s, s),
                `boxes` (b, 2, 4), `flips` (b, 2) and `photometric` (b, 2, p) on the CPU; or only
                `inputs`, images as uint8 (b, 3, h, w) or a list of (3, h, w) of one size.
            training: apply the color operations. Without it views are only normalized.

        Returns:
            A dict with `inputs` and `data_samples`. For two views: [view 1, view 2], each float32
            (b, 3, s, s), and their `ViewGeometry`. For `inputs`: float32 (b, 3, h, w), and None.
        """
        if "views" not in data:
            pixels = self._stack(data["inputs"])
            return {"inputs": self._normalize(pixels), "data_samples": None}
        views = data["views"]
        if not isinstance(views, Tensor):
            raise TypeError(
                f"views came as {type(views).__name__}, expected one tensor (b, 2, 3, s, s): set "
                "collate_fn=dict(type='default_collate') in the dataloader"
            )
        pixels = self._send(views).transpose(0, 1).flatten(0, 1)  # (2b, 3, s, s), view 1 first
        if training:
            parameters = data["photometric"].transpose(0, 1).flatten(0, 1)
            pixels = normalize(augment(pixels, parameters), self.mean_c, self.std_c)
        else:
            pixels = self._normalize(pixels)
        geometry = ViewGeometry(
            boxes=self._send(data["boxes"]).transpose(0, 1),
            flips=self._send(data["flips"]).transpose(0, 1),
        )
        return {"inputs": list(pixels.chunk(2)), "data_samples": geometry}

    def _stack(self, inputs: Tensor | list[Tensor]) -> Tensor:
        if isinstance(inputs, Tensor):
            return self._send(inputs)
        sizes = {tuple(image.shape) for image in inputs}
        if len(sizes) != 1:
            raise ValueError(
                f"the images have the sizes {sorted(sizes)}, expected one size for all: resize "
                "them, or pass them one at a time"
            )
        return self._send(torch.stack(list(inputs)))

    def _normalize(self, pixels_bchw: Tensor) -> Tensor:
        return normalize(to_unit_range(pixels_bchw), self.mean_c, self.std_c)

    def _send(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.mean_c.device, non_blocking=self._non_blocking)
