"""Each color operation against PIL's, the blur against scipy's Gaussian, on real photographs."""

import colorsys

import numpy as np
import pytest
import torch
from photographs import as_batch, photographs
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import gaussian_filter
from torchvision.transforms.functional import adjust_hue

from slotcon_plugin.datasets import photometric
from slotcon_plugin.datasets.photometric import Column, augment
from slotcon_plugin.datasets.transforms import TwoViews

TOLERANCE = 2 / 255  # mean absolute difference


@pytest.fixture(scope="module")
def images():
    return photographs()


@pytest.fixture(scope="module")
def views(images):
    return photometric.to_unit_range(torch.from_numpy(as_batch(images)))


def differences(ours, expected):
    """Mean absolute difference of each image; expected as PIL images."""
    expected = torch.from_numpy(as_batch(expected)).float() / 255
    return (ours - expected).abs().mean(dim=(1, 2, 3))


PIL_OPERATIONS = {
    "brightness": lambda image, f: ImageEnhance.Brightness(image).enhance(f),
    "contrast": lambda image, f: ImageEnhance.Contrast(image).enhance(f),
    "saturation": lambda image, f: ImageEnhance.Color(image).enhance(f),
    "hue": adjust_hue,
    "solarize": lambda image, t: ImageOps.solarize(image, int(t)),
}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("brightness", [0.6, 0.75, 0.9, 1.1, 1.25, 1.4]),
        ("contrast", [0.6, 0.75, 0.9, 1.1, 1.25, 1.4]),
        ("saturation", [0.8, 0.85, 0.9, 1.1, 1.15, 1.2]),
        ("saturation", [0.0, 0.3, 0.6, 1.4, 1.7, 2.0]),
        ("hue", [-0.1, -0.06, -0.02, 0.02, 0.06, 0.1]),
        ("hue", [-0.5, -0.4, -0.25, 0.25, 0.4, 0.5]),
        ("solarize", [128, 128, 128, 128, 64, 200]),
    ],
)
def test_each_operation_equals_pil(name, values, images, views):
    ours = getattr(photometric, name)(views, torch.tensor(values, dtype=torch.float32))
    expected = [PIL_OPERATIONS[name](p, v) for p, v in zip(images, values, strict=True)]
    assert differences(ours, expected).max() < TOLERANCE
    assert ours.min() >= 0 and ours.max() <= 1


def test_grayscale_equals_pil(images, views):
    expected = [image.convert("L").convert("RGB") for image in images]
    assert differences(photometric.grayscale(views), expected).max() < TOLERANCE / 4


@pytest.mark.parametrize("sigmas", [[0.1, 0.3, 0.5, 1.0, 1.5, 2.0], [0.2] * 6, [2.0] * 6])
def test_blur_equals_scipy(sigmas, views):
    reach = photometric.blur_reach(max(sigmas))
    ours = photometric.gaussian_blur(views, torch.tensor(sigmas), reach)
    for mine, image, sigma in zip(ours, views.double().numpy(), sigmas, strict=True):
        expected = gaussian_filter(image, (0, sigma, sigma), mode="nearest")
        assert np.abs(mine.numpy() - expected).mean() < TOLERANCE / 20
        assert np.abs(mine.numpy() - expected).max() < TOLERANCE  # the edges too


def test_blur_keeps_uniform_images_also_smaller_than_its_reach():
    uniform = torch.full((2, 3, 5, 3), 0.25)
    blurred = photometric.gaussian_blur(uniform, torch.tensor([0.5, 2.0]), reach=8)
    torch.testing.assert_close(blurred, uniform)


@pytest.mark.parametrize("dim", [2, 3])
def test_both_ways_to_blur_give_the_same(dim):
    views, kernels = torch.rand(3, 3, 20, 30), torch.rand(3, 7).softmax(dim=1)
    kernels[:, 0] = 0
    ours = photometric._shifted_sum(views, kernels, dim)
    torch.testing.assert_close(ours, photometric._grouped_convolution(views, kernels, dim))


def test_solarize_equals_pil_at_every_gray_level():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, 256).expand(2, 3, 1, 256)
    ours = photometric.solarize(photometric.to_unit_range(levels), torch.tensor([128.0, 256.0]))
    ours = (ours * 255).round().to(torch.uint8)
    expected = ImageOps.solarize(Image.fromarray(levels[0, 0].numpy()), 128)
    np.testing.assert_array_equal(ours[0, 0], np.asarray(expected))
    assert torch.equal(ours[1], levels[1])


def test_hue_shifts_primary_colors_by_thirds():
    red, green, blue = torch.eye(3)[:, :, None, None]
    colors = torch.stack([red, green, blue])
    shifted = photometric.hue(colors, torch.full((3,), 1 / 3))
    torch.testing.assert_close(shifted, torch.stack([green, blue, red]), atol=1e-6, rtol=0)
    gray = torch.full((1, 3, 2, 2), 0.3)
    torch.testing.assert_close(photometric.hue(gray, torch.tensor([0.4])), gray)


@pytest.mark.parametrize("shift", [-0.5, -0.3, -0.05, 0.1, 0.4, 0.5])
def test_hue_equals_the_standard_librarys(shift):
    levels = torch.linspace(0, 1, 4, dtype=torch.float64)  # ties between channels included
    colors = torch.cartesian_prod(levels, levels, levels)
    ours = photometric.hue(colors.T[None, :, None].float(), torch.tensor([shift]))
    expected = []
    for color in colors.tolist():
        hue, saturation, value = colorsys.rgb_to_hsv(*color)
        expected.append(colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value))
    torch.testing.assert_close(ours[0, :, 0].T, torch.tensor(expected), atol=1e-6, rtol=0)


def test_normalize(views):
    mean, std = torch.tensor(photometric.IMAGENET_MEAN), torch.tensor(photometric.IMAGENET_STD)
    ours = photometric.normalize(views, mean, std)
    assert torch.allclose(ours[2, 1, 5, 7], (views[2, 1, 5, 7] - 0.456) / 0.224)
    torch.testing.assert_close(ours * std[:, None, None] + mean[:, None, None], views)


def neutral(number):
    """Parameters that change no image."""
    row = torch.tensor([1.0, 1, 1, 0, 0, 1, 2, 3, 0, 0, 256])
    assert len(row) == len(Column)
    return row.repeat(number, 1)


def test_neutral_parameters_change_neutral(images, views):
    raw = torch.from_numpy(as_batch(images))
    assert torch.equal(augment(raw, neutral(len(raw))), views)
    assert torch.equal(raw, torch.from_numpy(as_batch(images)))
    assert augment(raw[:0], neutral(0)).shape == (0, 3, 160, 160)


@pytest.mark.parametrize("seed", range(3))
def test_all_operations_in_each_images_own_order_equal_pil(seed, images):
    views, rng = TwoViews(), np.random.default_rng(seed)
    rows = [views.draw_photometric(rng, number % 2) for number in range(len(images))]
    ours = augment(torch.from_numpy(as_batch(images)), torch.from_numpy(np.stack(rows)))
    expected = []
    for image, row in zip(images, rows, strict=True):
        for column in row[Column.FIRST : Column.FOURTH + 1].astype(int):
            name = Column(column).name.lower()
            image = PIL_OPERATIONS[name](image, float(row[column]))
        if row[Column.GRAY]:
            image = image.convert("L").convert("RGB")
        if row[Column.BLUR_SIGMA]:
            sigma = float(row[Column.BLUR_SIGMA])
            blurred = gaussian_filter(np.asarray(image), (sigma, sigma, 0), mode="nearest")
            image = Image.fromarray(blurred)
        expected.append(ImageOps.solarize(image, int(row[Column.SOLARIZE])))
    # PIL rounds down to whole gray levels after each of up to seven operations.
    assert differences(ours, expected).max() < 2 * TOLERANCE


def test_the_order_of_the_jitter_is_each_images_own(images):
    raw = torch.from_numpy(as_batch(images[:1] * 2))
    rows = neutral(2)
    rows[:, Column.BRIGHTNESS], rows[:, Column.CONTRAST] = 1.4, 0.6
    rows[1, Column.FIRST : Column.FOURTH + 1] = torch.tensor([1.0, 0, 3, 2])
    ours, unit = augment(raw, rows), photometric.to_unit_range(raw)
    bright, flat = torch.full((2,), 1.4), torch.full((2,), 0.6)
    first = photometric.contrast(photometric.brightness(unit, bright), flat)
    second = photometric.brightness(photometric.contrast(unit, flat), bright)
    torch.testing.assert_close(ours[0], first[0])
    torch.testing.assert_close(ours[1], second[1])
    assert (first - second).abs().mean() > 0.01


def random_batch(images, repeats=4):
    raw = torch.from_numpy(as_batch(images * repeats))[:, :, :64, :48]
    views, rng = TwoViews(), np.random.default_rng(0)
    rows = np.stack([views.draw_photometric(rng, number % 2) for number in range(len(raw))])
    return raw, torch.from_numpy(rows)


def test_a_batch_on_a_gpu_is_computed_as_single_images_on_a_cpu(images):
    raw, rows = random_batch(images)
    reach = photometric.blur_reach(float(rows[:, Column.BLUR_SIGMA].max()))
    whole = photometric._augment(raw, rows, rows.tolist(), reach)
    torch.testing.assert_close(augment(raw, rows), whole, atol=1e-6, rtol=0)


def test_an_image_does_not_depend_on_its_neighbors(images):
    raw, rows = random_batch(images)
    together = augment(raw, rows)
    alone = torch.cat([augment(raw[i : i + 1], rows[i : i + 1]) for i in range(len(raw))])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=0)


def test_mixed_precision_does_not_change_the_pixels(images):
    raw, rows = random_batch(images, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = augment(raw, rows)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, augment(raw, rows))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_the_cpu_and_does_not_wait(images):
    raw, rows = random_batch(images)
    on_device = raw.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        ours = augment(on_device, rows)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert (ours.cpu() - augment(raw, rows)).abs().mean() < 1e-4


def test_wrong_arguments_are_named():
    raw = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match="views_b3hw"):
        augment(raw[:, :1], neutral(2))
    with pytest.raises(ValueError, match="expected uint8"):
        augment(raw.float(), neutral(2))
    with pytest.raises(ValueError, match="columns"):
        augment(raw, neutral(2)[:, :5])
