"""The two MLPs: the projector on pixels, the predictor on slots."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from ..functional.checks import check_integers


def _mlp(linear: Callable, norm: Callable, inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Linear, batch norm, GELU, twice, and linear; weights truncated normal, std 0.02, biases 0."""
    layers = nn.Sequential(
        *(linear(inputs, hidden), norm(hidden), nn.GELU()),
        *(linear(hidden, hidden), norm(hidden), nn.GELU()),
        linear(hidden, outputs),
    )
    for layer in layers[::3]:
        nn.init.trunc_normal_(layer.weight, std=0.02)
        nn.init.zeros_(layer.bias)
    return layers


class PixelProjector(nn.Module):
    """g: an MLP on every pixel of the backbone's last map, as 1×1 convolutions.

    It has two hidden layers of `hidden_channels`; d is `out_channels`.
    """

    def __init__(
        self, in_channels: int = 2048, hidden_channels: int = 4096, out_channels: int = 256
    ) -> None:
        super().__init__()
        check_integers(1, in_channels=in_channels, hidden_channels=hidden_channels)
        check_integers(1, out_channels=out_channels)
        conv = partial(nn.Conv2d, kernel_size=1)
        self.mlp = _mlp(conv, nn.BatchNorm2d, in_channels, hidden_channels, out_channels)

    def forward(self, maps_bchw: tuple[Tensor, ...] | Tensor) -> Tensor:
        """Project the map, or the last of several, to (b, d, h, w), not normalized."""
        return self.mlp(maps_bchw if isinstance(maps_bchw, Tensor) else maps_bchw[-1])


class SlotPredictor(nn.Module):
    """h: an MLP that predicts the teacher's slots from the student's; d is `channels`."""

    def __init__(self, channels: int = 256, hidden_channels: int = 4096) -> None:
        super().__init__()
        check_integers(1, channels=channels, hidden_channels=hidden_channels)
        self.mlp = _mlp(nn.Linear, nn.BatchNorm1d, channels, hidden_channels, channels)

    def forward(self, slots_qd: Tensor) -> Tensor:
        return self.mlp(slots_qd)
