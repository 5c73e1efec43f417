"""The two MLPs: the projector on pixels, the predictor on slots."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from ..functional.checks import check_flags, check_integers
from ..functional.lean_mlp import lean_mlp


def _mlp(
    linear: Callable, norm: Callable, inputs: int, hidden: int, outputs: int, num_layers: int
) -> nn.Sequential:
    """Linear layers with batch norm and GELU between them; weights truncated normal, std 0.02,
    biases 0."""
    check_integers(1, num_layers=num_layers)
    widths = [inputs, *[hidden] * (num_layers - 1)]
    layers = nn.Sequential()
    for width in widths[:-1]:
        layers.extend((linear(width, hidden), norm(hidden), nn.GELU()))
    layers.append(linear(widths[-1], outputs))
    for layer in layers[::3]:
        nn.init.trunc_normal_(layer.weight, std=0.02)
        nn.init.zeros_(layer.bias)
    return layers


class PixelProjector(nn.Module):
    """g: an MLP on every pixel of the backbone's last map, as 1×1 convolutions.

    Args:
        in_channels, out_channels: of the map and of its projection, d.
        hidden_channels: width of the hidden layers.
        num_layers: linear layers, at least 1.
        batch_norm: whether batch norm follows each hidden layer.
        recompute: keep one of the six hidden maps for the backward pass and compute the others
            again, see `LeanMLP`: for maps of many pixels. It has the same state dict.
    """

    def __init__(
        self,
        in_channels: int = 2048,
        hidden_channels: int = 4096,
        out_channels: int = 256,
        num_layers: int = 3,
        batch_norm: bool = True,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        check_integers(1, in_channels=in_channels, hidden_channels=hidden_channels)
        check_integers(1, out_channels=out_channels)
        check_flags(batch_norm=batch_norm, recompute=recompute)
        if recompute and not (num_layers == 3 and batch_norm):
            raise ValueError(
                f"recompute is {recompute!r}, but num_layers is {num_layers} and batch_norm is "
                f"{batch_norm}: expected 3 layers with batch norm, or recompute=False."
            )
        self.recompute = recompute
        conv = partial(nn.Conv2d, kernel_size=1)
        norm = nn.BatchNorm2d if batch_norm else nn.Identity
        self.mlp = _mlp(conv, norm, in_channels, hidden_channels, out_channels, num_layers)

    def forward(self, maps_bchw: tuple[Tensor, ...] | Tensor) -> Tensor:
        """Project the map, or the last of several, to (b, d, h, w), not normalized."""
        map_bchw = maps_bchw if isinstance(maps_bchw, Tensor) else maps_bchw[-1]
        if self.recompute and self.mlp[1].training and self.mlp[4].training:
            return lean_mlp(self.mlp, map_bchw)
        return self.mlp(map_bchw)


class SlotPredictor(nn.Module):
    """h: an MLP that predicts the teacher's slots from the student's; d is `channels`.

    `hidden_channels`, `num_layers` and `batch_norm` are as in `PixelProjector`.
    """

    def __init__(
        self,
        channels: int = 256,
        hidden_channels: int = 4096,
        num_layers: int = 3,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        check_integers(1, channels=channels, hidden_channels=hidden_channels)
        check_flags(batch_norm=batch_norm)
        norm = nn.BatchNorm1d if batch_norm else nn.Identity
        self.mlp = _mlp(nn.Linear, norm, channels, hidden_channels, channels, num_layers)

    def forward(self, slots_qd: Tensor) -> Tensor:
        return self.mlp(slots_qd)
