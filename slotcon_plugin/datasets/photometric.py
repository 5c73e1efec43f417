"""Color operations on a batch: jitter, grayscale, blur, solarize; each image has its own values.

Every operation is a pure function of pixels and parameters: RGB in 0-1, (b, 3, h, w), any device.
Nothing here is random: `TwoViews` draws the parameters. The definitions are PIL's, as in the
paper's pipeline, except that PIL rounds to whole gray levels after each operation, and that its
blur only approximates a Gaussian.
"""

from collections import defaultdict
from enum import IntEnum
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..functional.checks import check_shapes
from ..functional.precision import full_precision

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as PIL's mode "L"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Column(IntEnum):
    """Columns of the parameters (b, p) of `augment`."""

    BRIGHTNESS = 0  # factor
    CONTRAST = 1  # factor
    SATURATION = 2  # factor
    HUE = 3  # shift, as a fraction of the color circle, -0.5 to 0.5
    FIRST = 4  # which of the four columns above is applied first ...
    SECOND = 5
    THIRD = 6
    FOURTH = 7  # ... and last: a permutation of 0-3
    GRAY = 8  # 1 for grayscale
    BLUR_SIGMA = 9  # pixels
    SOLARIZE = 10  # threshold as a gray level, 0-255


def brightness(views_bchw: Tensor, factor_b: Tensor) -> Tensor:
    """Blend with black: factor 0 gives black, 1 the image. Clipped to 0-1."""
    return (views_bchw * _per_image(factor_b)).clamp_(0, 1)


def contrast(views_bchw: Tensor, factor_b: Tensor) -> Tensor:
    """Blend with the mean luma: factor 0 gives uniform gray, 1 the image. Clipped to 0-1."""
    mean_b111 = luma(views_bchw).mean(dim=(1, 2, 3), keepdim=True)
    return _blend(views_bchw, mean_b111, factor_b)


def saturation(views_bchw: Tensor, factor_b: Tensor) -> Tensor:
    """Blend with the luma: factor 0 gives the gray image, 1 the image. Clipped to 0-1."""
    return _blend(views_bchw, luma(views_bchw), factor_b)


def hue(views_bchw: Tensor, shift_b: Tensor) -> Tensor:
    """Shift the hue in HSV space, in fractions of the color circle (1 is the whole circle)."""
    red, green, blue = views_bchw.unbind(dim=1)
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = high - low
    # The angle to red is 1 + (g + b - r - low) / chroma sixths of the circle, with the sign of
    # g - b. This needs no case per sector: masks are slow on a CPU. Where chroma is 0 the angle
    # does not matter.
    angle = (green - red).add_(blue).sub_(low).div_(chroma.clamp_min(1e-12)).add_(1)
    angle = angle.copysign_(green - blue).div_(6).add_(shift_b[:, None, None])
    shifted = torch.empty_like(views_bchw)
    for channel, primary in enumerate((0, 1 / 3, 2 / 3)):
        distance = angle - primary
        distance.sub_(distance.round()).abs_()  # on the circle: 0 to 1/2
        share = distance.mul_(-6).add_(2).clamp_(0, 1)  # 1 within 1/6 of the primary, 0 from 1/3
        torch.addcmul(low, chroma, share, out=shifted[:, channel])
    return shifted


def luma(views_bchw: Tensor) -> Tensor:
    """Weighted sum of the channels, ITU-R 601: (b, 1, h, w)."""
    red, green, blue = views_bchw.split(1, dim=1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def grayscale(views_bchw: Tensor) -> Tensor:
    """The luma in all three channels."""
    return luma(views_bchw).repeat(1, 3, 1, 1)


def gaussian_blur(views_bchw: Tensor, sigma_b: Tensor, reach: int) -> Tensor:
    """Blur each image with a Gaussian of its own sigma; the outermost pixels are repeated.

    `sigma_b` are standard deviations in pixels, above 0. The kernels cover `reach` pixels on either
    side: `blur_reach` of the largest sigma.
    """
    offsets = torch.arange(-reach, reach + 1, device=sigma_b.device, dtype=sigma_b.dtype)
    kernel_bt = torch.softmax(-0.5 * (offsets / sigma_b[:, None]) ** 2, dim=1).to(views_bchw.dtype)
    padded = F.pad(views_bchw, (0, 0, reach, reach), mode="replicate")
    slide = _shifted_sum if views_bchw.device.type == "cpu" else _grouped_convolution
    padded = F.pad(slide(padded, kernel_bt, dim=2), (reach, reach, 0, 0), mode="replicate")
    return slide(padded, kernel_bt, dim=3)


def blur_reach(sigma: float) -> int:
    """Pixels on either side that a blur covers: four sigmas, at least 1."""
    return max(int(4 * sigma + 0.5), 1)


def solarize(views_bchw: Tensor, threshold_b: Tensor) -> Tensor:
    """Invert every value at or above the threshold, a gray level 0-255; 256 inverts none."""
    # Half a level lower, so that rounding does not matter for values at whole gray levels.
    threshold = (_per_image(threshold_b) - 0.5) / 255
    return torch.where(views_bchw >= threshold, 1 - views_bchw, views_bchw)


def normalize(views_bchw: Tensor, mean_c: Tensor, std_c: Tensor) -> Tensor:
    """(value - mean) / std for each channel; mean and std in the units of 0-1 pixels."""
    return (views_bchw - mean_c[:, None, None]).div_(std_c[:, None, None])


def to_unit_range(views_bchw: Tensor) -> Tensor:
    """Convert 8-bit pixels to float32 in 0-1, a new tensor."""
    return views_bchw.to(torch.float32).div_(255)


@full_precision
def augment(views_bchw: Tensor, parameters_bp: Tensor) -> Tensor:
    """Apply to each image its own operations: jitter in its own order, gray, blur, solarize.

    From uint8 RGB (b, 3, h, w) to float32 in 0-1. The float32 parameters have the columns of
    `Column` and are on the CPU: an operation is computed only for the images that it changes, and
    these are found without waiting for the device.
    """
    check_shapes(views_b3hw=views_bchw, parameters_bp=parameters_bp)
    if views_bchw.dtype != torch.uint8:
        raise ValueError(f"views_bchw holds {views_bchw.dtype}, expected uint8 pixels, 0-255")
    if parameters_bp.shape[1] != len(Column) or parameters_bp.device.type != "cpu":
        raise ValueError(
            f"parameters_bp is {tuple(parameters_bp.shape)} on {parameters_bp.device}, expected "
            f"{len(Column)} columns (see Column) on the CPU"
        )
    rows = parameters_bp.tolist()
    reach = blur_reach(max((row[Column.BLUR_SIGMA] for row in rows), default=0))
    if not rows or views_bchw.device.type != "cpu":
        return _augment(views_bchw, parameters_bp, rows, reach)
    # One image at a time stays in the processor's cache.
    images = zip(views_bchw.split(1), parameters_bp.split(1), rows, strict=True)
    return torch.cat([_augment(view, values, [row], reach) for view, values, row in images])


OPERATIONS = {  # column: function, value that changes nothing
    Column.BRIGHTNESS: (brightness, 1),
    Column.CONTRAST: (contrast, 1),
    Column.SATURATION: (saturation, 1),
    Column.HUE: (hue, 0),
    Column.GRAY: (lambda views_bchw, _: grayscale(views_bchw), 0),
    Column.BLUR_SIGMA: (gaussian_blur, 0),
    Column.SOLARIZE: (solarize, 256),
}


def _augment(views_bchw: Tensor, parameters_bp: Tensor, rows: list, reach: int) -> Tensor:
    """Augment part of a batch. `rows` holds the parameters as numbers, `reach` is the batch's."""
    views, steps = to_unit_range(views_bchw), _steps(rows)
    if not steps:
        return views
    values_bp = _send(parameters_bp, views.device)
    images = torch.tensor([image for _, chosen in steps for image in chosen])
    indices = _send(images, views.device).split([len(chosen) for _, chosen in steps])
    for (column, chosen), index in zip(steps, indices, strict=True):
        operation, _ = OPERATIONS[column]
        if column == Column.BLUR_SIGMA:
            operation = partial(gaussian_blur, reach=reach)
        if len(chosen) == len(rows):
            views = operation(views, values_bp[:, column])
        else:
            views[index] = operation(views[index], values_bp[index, column])
    return views


def _steps(rows: list[list[float]]) -> list[tuple[int, list[int]]]:
    """The operations in the order of their application: column, images that it changes."""
    steps: dict[tuple[int, int], list[int]] = defaultdict(list)
    for image, row in enumerate(rows):
        jitter = map(int, row[Column.FIRST : Column.FOURTH + 1])
        columns = (*jitter, Column.GRAY, Column.BLUR_SIGMA, Column.SOLARIZE)
        for position, column in enumerate(columns):
            if row[column] != OPERATIONS[column][1]:
                steps[position, column].append(image)
    return [(column, chosen) for (_, column), chosen in sorted(steps.items())]


def _blend(views_bchw: Tensor, other: Tensor, factor_b: Tensor) -> Tensor:
    factor = _per_image(factor_b)
    return (views_bchw * factor).add_(other * (1 - factor)).clamp_(0, 1)


def _shifted_sum(padded_bchw: Tensor, kernel_bt: Tensor, dim: int) -> Tensor:
    """Slide each image's kernel along dim 2 or 3: a weighted sum of shifted images.

    On a CPU three times as fast as `_grouped_convolution`, which gives the same numbers.
    """
    length = padded_bchw.shape[dim] - kernel_bt.shape[1] + 1
    # A smaller weight is below the resolution of float32 pixels in 0-1.
    first, *others = (kernel_bt.amax(dim=0) > 1e-8).nonzero().flatten().tolist()
    total = padded_bchw.narrow(dim, first, length) * _per_image(kernel_bt[:, first])
    for tap in others:
        total.addcmul_(padded_bchw.narrow(dim, tap, length), _per_image(kernel_bt[:, tap]))
    return total


def _grouped_convolution(padded_bchw: Tensor, kernel_bt: Tensor, dim: int) -> Tensor:
    """Slide each image's kernel along dim 2 or 3: a group for each channel of each image."""
    b, c, h, w = padded_bchw.shape
    kernel = kernel_bt.repeat_interleave(c, dim=0)[:, None, None].transpose(dim, 3)
    stacked = F.conv2d(padded_bchw.reshape(1, b * c, h, w), kernel, groups=b * c)
    return stacked.view(b, c, *stacked.shape[2:])


def _send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to the device without waiting for it, which needs page-locked memory."""
    if device.type == "cuda" and not tensor.is_pinned():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _per_image(value_b: Tensor) -> Tensor:
    return value_b[:, None, None, None]
