"""The data preprocessor: from a batch to the model's arguments."""

import pytest
import torch
from photographs import as_batch, photograph_paths, photographs
from torch.utils.data import DataLoader

from slotcon_plugin.datasets import ImageSampler, UnlabeledImages
from slotcon_plugin.datasets.data_preprocessor import TwoViewPreprocessor
from slotcon_plugin.datasets.photometric import IMAGENET_MEAN, IMAGENET_STD, augment, normalize
from slotcon_plugin.functional.alignment import ViewGeometry

MEAN, STD = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    listing = tmp_path_factory.mktemp("lists") / "images.txt"
    listing.write_text("\n".join(photograph_paths()))
    dataset = UnlabeledImages(listing, views={"size": 48})
    return next(iter(DataLoader(dataset, 6, sampler=ImageSampler(dataset, seed=0))))


def test_views_are_augmented_by_their_own_parameters_and_normalized(batch):
    result = TwoViewPreprocessor()(batch, training=True)
    assert set(result) == {"inputs", "data_samples"} and len(result["inputs"]) == 2
    for v, view in enumerate(result["inputs"]):
        assert view.shape == (6, 3, 48, 48) and view.dtype == torch.float32
        assert view.is_contiguous() and not view.requires_grad
        expected = normalize(augment(batch["views"][:, v], batch["photometric"][:, v]), MEAN, STD)
        torch.testing.assert_close(view, expected, atol=1e-4, rtol=0)
    again = TwoViewPreprocessor()(batch, training=True)
    assert all(torch.equal(a, b) for a, b in zip(result["inputs"], again["inputs"]))


def test_geometry_is_sorted_by_views(batch):
    geometry = TwoViewPreprocessor()(batch, training=True)["data_samples"]
    assert isinstance(geometry, ViewGeometry)
    assert geometry.boxes.shape == (2, 6, 4) and geometry.flips.shape == (2, 6)
    assert torch.equal(geometry.boxes[1, 3], batch["boxes"][3, 1])
    assert torch.equal(geometry.flips[0], batch["flips"][:, 0])


def test_outside_training_views_are_only_normalized(batch):
    result = TwoViewPreprocessor()(batch, training=False)
    expected = (batch["views"][:, 1].float() / 255 - MEAN[:, None, None]) / STD[:, None, None]
    torch.testing.assert_close(result["inputs"][1], expected)


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_single_images_are_only_normalized(as_list, training):
    pixels = torch.from_numpy(as_batch(photographs(40)))
    result = TwoViewPreprocessor()({"inputs": list(pixels) if as_list else pixels}, training)
    expected = (pixels.float() / 255 - MEAN[:, None, None]) / STD[:, None, None]
    torch.testing.assert_close(result["inputs"], expected)
    assert result["data_samples"] is None


def test_mean_and_std_can_be_set():
    pixels = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    preprocessor = TwoViewPreprocessor(mean=(0.5, 0.0, 1.0), std=(0.5, 1.0, 2.0))
    assert preprocessor({"inputs": pixels})["inputs"][0, :, 0, 0].tolist() == [1, 1, 0]
    assert not preprocessor.state_dict()  # no key in a checkpoint


def test_mixed_precision_does_not_change_the_inputs(batch):
    # MMEngine calls the preprocessor inside the optimizer's autocast context.
    expected = TwoViewPreprocessor()(batch, training=True)["inputs"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = TwoViewPreprocessor()(batch, training=True)["inputs"]
    assert all(torch.equal(a, b) for a, b in zip(ours, expected))


def test_errors_name_what_was_expected(batch):
    listed = {name: list(value) for name, value in batch.items()}
    with pytest.raises(TypeError, match="default_collate"):
        TwoViewPreprocessor()(listed, training=True)
    sizes = [torch.zeros(3, 4, 4), torch.zeros(3, 5, 4)]
    with pytest.raises(ValueError, match="one size"):
        TwoViewPreprocessor()({"inputs": sizes})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_the_cpu(batch):
    ours = TwoViewPreprocessor().cuda()(batch, training=True)
    expected = TwoViewPreprocessor()(batch, training=True)
    assert ours["data_samples"].boxes.is_cuda and ours["data_samples"].flips.is_cuda
    for a, b in zip(ours["inputs"], expected["inputs"]):
        assert a.is_cuda and (a.cpu() - b).abs().mean() < 1e-3


@pytest.mark.parametrize(
    ("mean", "std", "wrong"),
    [
        ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "mean is"),
        ((0.485, 0.456, 0.406), (58.395, 57.12, 57.375), "std is"),
        ((0.485, 0.456, 0.406), (0.0009, 0.0009, 0.0009), "std is"),
        ((0.5, 0.5, 0.5), (0, 0, 0), "std is"),
        ((0.5, 0.5), (0.5, 0.5, 0.5), "mean is"),
        (0.5, (0.5, 0.5, 0.5), "mean is"),
        ((0.5, "0.5", 0.5), (0.5, 0.5, 0.5), "mean is"),
        ((0.5, 0.5, 0.5), (0.5, 0.5, float("nan")), "std is"),
    ],
)
def test_mean_and_std_are_those_of_pixels_in_0_1(mean, std, wrong):
    with pytest.raises(ValueError, match=f"{wrong} .*units of 0-1 pixels: divide"):
        TwoViewPreprocessor(mean, std)
