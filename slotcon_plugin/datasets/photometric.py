"""Color operations on a batch: jitter, gray, blur, solarize, each image with its own values.

Every operation is a pure function of pixels and parameters: RGB in 0-1, (b, 3, h, w), any device.
Nothing here is random; `TwoViews` draws the parameters. Definitions follow PIL's, which the paper's
pipeline uses, without PIL's rounding to whole gray levels after each step.
"""

from collections.abc import Callable
from enum import IntEnum

import torch
import torch.nn.functional as F
from torch import Tensor

from ..functional.precision import full_precision
from ..functional.shapes import check_shapes

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as PIL's mode "L"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BLUR_REACH = 4.0  # the Gaussian is cut at this many sigmas


class Column(IntEnum):
    """Columns of the parameters (b, p) of `augment`; in brackets the value that changes nothing."""

    BRIGHTNESS = 0  # factor (1)
    CONTRAST = 1  # factor (1)
    SATURATION = 2  # factor (1)
    HUE = 3  # turn, as a fraction of the color circle, -0.5 to 0.5 (0)
    FIRST = 4  # which of the four columns above is applied first ...
    SECOND = 5
    THIRD = 6
    FOURTH = 7  # ... and last: a permutation of 0-3
    GRAY = 8  # 1: show gray (0)
    BLUR_SIGMA = 9  # pixels (0)
    SOLARIZE = 10  # threshold as a gray level, 0-255 (256)


def brightness(views_bchw: Tensor, factor_b: Tensor) -> Tensor:
    """Blend with black: factor 0 is black, 1 the image itself. Result clipped to 0-1."""
    return (views_bchw * _per_image(factor_b)).clamp_(0, 1)


def contrast(views_bchw: Tensor, factor_b: Tensor) -> Tensor:
    """Blend with the image's mean luma: factor 0 is even gray, 1 the image. Clipped to 0-1."""
    mean_b111 = luma(views_bchw).mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean_b111, views_bchw, _per_image(factor_b)).clamp_(0, 1)


def saturation(views_bchw: Tensor, factor_b: Tensor) -> Tensor:
    """Blend with the gray image: factor 0 is gray, 1 the image itself. Clipped to 0-1."""
    return torch.lerp(luma(views_bchw), views_bchw, _per_image(factor_b)).clamp_(0, 1)


def hue(views_bchw: Tensor, turn_b: Tensor) -> Tensor:
    """Turn the hue in HSV space by `turn_b` of the color circle (1 is a whole turn)."""
    red, green, blue = views_bchw.unbind(dim=1)
    top, low = views_bchw.amax(dim=1), views_bchw.amin(dim=1)
    chroma = top - low
    # Gray pixels have no hue; their chroma of 0 keeps them.
    safe = torch.where(chroma > 0, chroma, 1)
    sector = torch.where(
        top == red,
        (green - blue) / safe,
        torch.where(top == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    sector = sector + 6 * turn_b[:, None, None]
    turned = torch.empty_like(views_bchw)
    for channel, offset in enumerate((5, 3, 1)):  # HSV to RGB without cases (Foley et al.)
        k = torch.remainder(sector + offset, 6)
        torch.sub(top, chroma * torch.minimum(k, 4 - k).clamp_(0, 1), out=turned[:, channel])
    return turned


def luma(views_bchw: Tensor) -> Tensor:
    """Weighted sum of the channels, ITU-R 601: (b, 1, h, w)."""
    red, green, blue = views_bchw.split(1, dim=1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def grayscale(views_bchw: Tensor) -> Tensor:
    """Show the luma in all three channels."""
    return luma(views_bchw).expand_as(views_bchw)


def gaussian_blur(views_bchw: Tensor, sigma_b: Tensor, reach: int | None = None) -> Tensor:
    """Blur each image with a true Gaussian of its own sigma; the outermost pixels are repeated.

    Args:
        views_bchw: any size, any values.
        sigma_b: standard deviations in pixels, above 0.
        reach: pixels on either side that the kernel covers. By default four times the largest
            sigma, which is read from the device; give it where that wait matters.
    """
    b, c, h, w = views_bchw.shape
    if reach is None:
        reach = blur_reach(float(sigma_b.max()))
    offsets = torch.arange(-reach, reach + 1, device=sigma_b.device, dtype=sigma_b.dtype)
    kernel_bt = torch.softmax(-0.5 * (offsets / sigma_b[:, None]) ** 2, dim=1)
    # One convolution with a group for each channel of each image gives each its own kernel.
    kernel = kernel_bt.to(views_bchw.dtype).repeat_interleave(c, dim=0)
    stacked = views_bchw.reshape(1, b * c, h, w)
    padded = F.pad(stacked, (0, 0, reach, reach), mode="replicate")
    down = F.conv2d(padded, kernel[:, None, :, None], groups=b * c)
    padded = F.pad(down, (reach, reach, 0, 0), mode="replicate")
    return F.conv2d(padded, kernel[:, None, None, :], groups=b * c).view(b, c, h, w)


def blur_reach(sigma: float) -> int:
    """Pixels on either side that a blur of this sigma takes in, at least 1."""
    return max(int(BLUR_REACH * sigma + 0.5), 1)


def solarize(views_bchw: Tensor, threshold_b: Tensor) -> Tensor:
    """Invert every value at or above the threshold, given as a gray level 0-255 (256: none)."""
    # Half a level below: a threshold means the whole gray levels from it on, whatever the rounding.
    threshold = (_per_image(threshold_b) - 0.5) / 255
    return torch.where(views_bchw >= threshold, 1 - views_bchw, views_bchw)


def normalize(views_bchw: Tensor, mean_c: Tensor, std_c: Tensor) -> Tensor:
    """(value - mean) / std for each channel; mean and std in the units of 0-1 pixels."""
    return (views_bchw - mean_c[:, None, None]).div_(std_c[:, None, None])


def to_unit_range(views_bchw: Tensor) -> Tensor:
    """8-bit pixels as float32 in 0-1; always a new tensor."""
    return views_bchw.to(torch.float32).div_(255)


@full_precision
def augment(views_bchw: Tensor, parameters_bp: Tensor) -> Tensor:
    """Apply to each image its own operations: jitter in its own order, gray, blur, solarize.

    Args:
        views_bchw: uint8 (b, 3, h, w), RGB.
        parameters_bp: float32 (b, p), columns as in `Column`. On the CPU: which images an
            operation concerns is then known without waiting for the device, and only those are
            computed.

    Returns:
        float32 (b, 3, h, w) in 0-1.

    Raises:
        ValueError: other shapes, other pixels than uint8, or parameters on a device.
    """
    check_shapes(views_b3hw=views_bchw, parameters_bp=parameters_bp)
    if views_bchw.dtype != torch.uint8:
        raise ValueError(f"views_bchw holds {views_bchw.dtype}, expected uint8 pixels, 0-255")
    if parameters_bp.shape[1] != len(Column) or parameters_bp.device.type != "cpu":
        raise ValueError(
            f"parameters_bp is {tuple(parameters_bp.shape)} on {parameters_bp.device}, expected "
            f"{len(Column)} columns (see Column) on the CPU"
        )
    plan = _plan(parameters_bp)
    device = views_bchw.device
    values_bp = _send(parameters_bp, device)
    chosen = _send(torch.cat([index for _, _, index in plan]), device) if plan else None
    views = to_unit_range(views_bchw)
    position = 0
    for operation, column, index in plan:
        index = chosen[position : position + len(index)]
        position += len(index)
        views[index] = operation(views[index], values_bp[index, column])
    return views


def _plan(parameters_bp: Tensor) -> list[tuple[Callable, Column, Tensor]]:
    """The operations in order, each with its column and the images that it changes, if any."""
    plan: list[tuple[Callable, Column, Tensor]] = []

    def add(operation: Callable, column: Column, chosen_b: Tensor) -> None:
        index = chosen_b.nonzero().flatten()
        if len(index):
            plan.append((operation, column, index))

    jitter = (
        (brightness, Column.BRIGHTNESS, 1),
        (contrast, Column.CONTRAST, 1),
        (saturation, Column.SATURATION, 1),
        (hue, Column.HUE, 0),
    )
    for turn in range(Column.FIRST, Column.FOURTH + 1):
        for operation, column, nothing in jitter:
            now = parameters_bp[:, turn] == column
            add(operation, column, now & (parameters_bp[:, column] != nothing))
    add(lambda views, _: grayscale(views), Column.GRAY, parameters_bp[:, Column.GRAY] > 0)
    sigma_b = parameters_bp[:, Column.BLUR_SIGMA]
    reach = blur_reach(float(sigma_b.max())) if len(sigma_b) else 1
    add(lambda views, s: gaussian_blur(views, s, reach), Column.BLUR_SIGMA, sigma_b > 0)
    add(solarize, Column.SOLARIZE, parameters_bp[:, Column.SOLARIZE] < 256)
    return plan


def _send(tensor: Tensor, device: torch.device) -> Tensor:
    """To the device without waiting for it, which needs page-locked memory."""
    if device.type == "cuda" and not tensor.is_pinned():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _per_image(value_b: Tensor) -> Tensor:
    return value_b[:, None, None, None]
