"""A pyramid made of one map, for detectors and segmentation heads on a plain transformer.

Li, Mao, Girshick, He, "Exploring Plain Vision Transformer Backbones for Object Detection" (ViTDet),
ECCV 2022, arXiv 2203.16527, section 3.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torchvision.models.convnext import LayerNorm2d

from ..functional.checks import check_integers


class SimplePyramid(BaseModule):
    """Maps of 1/4, 1/2, 1 and 2 times the stride of the encoder's last map, each by its own layers.

    Of a ViT with patches of 16 pixels they have the strides 4, 8, 16 and 32. Finer maps are made by
    transposed convolutions, the coarser one by max pooling; a 1x1 and a 3x3 convolution follow,
    each with layer norm over the channels.

    Args:
        in_channels: of the last map, or of every map.
        out_channels: of all maps of the pyramid.
        num_outs: 4, or more: then each further map has every second pixel of the one before.
        init_cfg: MMEngine's initialization config; by default torch's initialization.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        out_channels: int = 256,
        num_outs: int = 4,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        c = in_channels if isinstance(in_channels, int) else in_channels[-1]
        check_integers(4, in_channels=c, num_outs=num_outs)
        check_integers(1, out_channels=out_channels)
        self.num_outs = num_outs
        self.levels = nn.ModuleList(
            [
                nn.Sequential(_twice(c, c // 2), _norm(c // 2), nn.GELU(), _twice(c // 2, c // 4)),
                _twice(c, c // 2),
                nn.Identity(),
                nn.MaxPool2d(2),
            ]
        )
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, bias=False),
                _norm(out_channels),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                _norm(out_channels),
            )
            for channels in (c // 4, c // 2, c, c)
        )

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """From the encoder's maps to `num_outs` maps (b, out_channels, h, w), the finest first."""
        pyramid = [
            conv(level(maps[-1])) for level, conv in zip(self.levels, self.convs, strict=True)
        ]
        while len(pyramid) < self.num_outs:
            pyramid.append(F.max_pool2d(pyramid[-1], 1, stride=2))
        return tuple(pyramid)


def _twice(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)


def _norm(channels: int) -> LayerNorm2d:
    return LayerNorm2d(channels, eps=1e-6)
