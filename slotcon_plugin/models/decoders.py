"""Decoders: modules from the encoder's maps to maps that are grouped too, the finest first.

Quetin, Ghosh, Maleki, "Beyond the Encoder: Joint Encoder-Decoder Contrastive Pre-Training Improves
Dense Prediction" (DeCon), WACV 2026, arXiv 2503.17526.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..errors import ConfigError
from ..functional.checks import check_numbers


class FCNConvolutions(BaseModule):
    """The convolutions of mmseg's `FCNHead` on the encoder's last map, without its classifier.

    Args:
        in_channels: of the last map, or of every map.
        head: further options of `FCNHead`, e.g. channels=256, num_convs=2, dilation=6,
            norm_cfg=dict(type='BN').
        init_cfg: MMEngine's initialization config.
    """

    def __init__(
        self, in_channels: int | Sequence[int], init_cfg: dict | None = None, **head: object
    ) -> None:
        super().__init__(init_cfg)
        head["in_channels"] = in_channels if isinstance(in_channels, int) else in_channels[-1]
        unused = dict(num_classes=3, loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True))
        head = dict(concat_input=False) | unused | head
        self.convs = MODELS.build(dict(type="FCNHead", _scope_="mmseg", **head)).convs

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor]:
        """The convolved last map (b, channels, h, w) in a tuple."""
        return (self.convs(maps[-1]),)


class LateralDropout(nn.Module):
    """Drops parts of an FPN's lateral maps, in student and teacher; a forward hook of the laterals.

    Args:
        channels: probability that a channel of an image's map is dropped; the others are scaled by
            1 / (1 - p).
        maps: probability that the whole map of a level is dropped, for all images; not scaled.
    """

    def __init__(self, channels: float = 0.0, maps: float = 0.0) -> None:
        super().__init__()
        check_numbers("[0, 1)", lateral_channel_dropout=channels, lateral_map_dropout=maps)
        if channels and maps:
            raise ConfigError(
                f"lateral_channel_dropout is {channels} and lateral_map_dropout is {maps}, "
                "expected at most one of them: set the other one to 0."
            )
        self.channels, self.maps = channels, maps

    @property
    def active(self) -> bool:
        return bool(self.channels or self.maps)

    def forward(self, conv: nn.Module, inputs: tuple, lateral_bchw: Tensor) -> Tensor:
        if self.training and self.maps:
            return lateral_bchw * (torch.rand((), device=lateral_bchw.device) >= self.maps)
        return F.dropout2d(lateral_bchw, self.channels, self.training)


def build_decoder(config: dict, levels: int, dropout: LateralDropout) -> nn.Module:
    """Build a decoder whose first `levels` maps are trained.

    Of mmdet's FPN, the output convolutions of other levels are left out: nothing would train them.
    """
    decoder = MODELS.build(config)
    outputs = getattr(decoder, "fpn_convs", ())
    for i in range(levels, len(outputs)):
        outputs[i] = nn.Identity()
    if dropout.active:
        if not hasattr(decoder, "lateral_convs"):
            raise ConfigError(
                f"The decoder {config['type']} has no lateral convolutions (`lateral_convs`) for "
                "the dropout: use mmdet.FPN, or set lateral_channel_dropout=0 and "
                "lateral_map_dropout=0."
            )
        decoder.lateral_dropout = dropout
        for conv in decoder.lateral_convs[:-1]:
            conv.register_forward_hook(dropout)
    return decoder
