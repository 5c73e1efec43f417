"""The hook that reports unreadable images, in a real runner and in two processes."""

import logging

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from photographs import photographs
from torch import nn

from benchmarks.processes import run_processes
from slotcon_plugin.datasets import ImageSampler, UnlabeledImages
from slotcon_plugin.datasets.data_preprocessor import TwoViewPreprocessor
from slotcon_plugin.errors import DataError
from slotcon_plugin.hooks.unreadable_images_hook import UnreadableImagesHook

pytestmark = pytest.mark.filterwarnings(
    "ignore::slotcon_plugin.datasets.unlabeled_images.UnreadableImageWarning"
)


class TinyModel(BaseModel):
    """Reads the images and learns one number."""

    def __init__(self):
        super().__init__(TwoViewPreprocessor())
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, inputs, data_samples, mode):
        return {"loss": (inputs[0].mean() - self.weight) ** 2}


def runner_for(folder, work_dir, max_unreadable, interval=100, epochs=2):
    dataset = UnlabeledImages(folder, views={"size": 16})
    hook = UnreadableImagesHook(max_unreadable=max_unreadable, interval=interval)
    return Runner(
        TinyModel(),
        work_dir=str(work_dir),
        train_dataloader={
            "dataset": dataset,
            "batch_size": 2,
            "num_workers": 0,
            "sampler": ImageSampler(dataset, seed=0),
            "collate_fn": {"type": "default_collate"},
        },
        train_cfg={"by_epoch": True, "max_epochs": epochs},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}},
        custom_hooks=[hook],
        experiment_name=f"report_{work_dir.name}",
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for number, image in enumerate(photographs(32) * 2):
        image.save(tmp_path / "images" / f"{number:02d}.png")
    (tmp_path / "images" / "05.png").write_bytes(b"broken")
    return tmp_path / "images"  # one of twelve is broken


def messages(runner, caplog):
    runner.logger.addHandler(caplog.handler)
    return caplog


def test_the_number_is_logged_after_every_epoch(folder, tmp_path, caplog):
    runner = runner_for(folder, tmp_path / "fine", max_unreadable=0.1)
    with caplog.at_level(logging.INFO):
        messages(runner, caplog)
        runner.train()
    lines = [r.message for r in caplog.records if r.message.startswith("Unreadable images")]
    assert lines == ["Unreadable images: 1 of 12."] * 2
    assert runner.message_hub.get_scalar("train/unreadable_images").current() == 1


def test_too_many_stop_training_and_the_epochs_checkpoint_is_there(folder, tmp_path):
    runner = runner_for(folder, tmp_path / "stops", max_unreadable=0.01)
    with pytest.raises(DataError, match=r"1 of 12 images \(8.3%\).*1.0%.*05.png.*Repair"):
        runner.train()
    assert runner.epoch == 0 and (tmp_path / "stops" / "epoch_1.pth").is_file()


def test_a_broken_data_set_is_noticed_within_an_epoch(folder, tmp_path):
    for path in sorted(folder.iterdir())[:8]:
        path.write_bytes(b"broken")
    runner = runner_for(folder, tmp_path / "early", max_unreadable=0.01, interval=2)
    with pytest.raises(DataError, match="of 12 images"):
        runner.train()
    assert runner.iter == 1  # the second of six, counted from 0


def test_other_data_sets_are_left_alone():
    class OtherRunner:
        class train_dataloader:
            dataset = [1, 2]

    hook = UnreadableImagesHook()
    hook.before_train(OtherRunner)
    hook.after_train_epoch(OtherRunner)


class _Hub:
    @staticmethod
    def update_scalar(name, value):
        pass


class _Runner:
    """What the hook uses of a runner."""

    message_hub = _Hub

    def __init__(self, dataset):
        self.train_dataloader = type("Loader", (), {"dataset": dataset})


def _error_of(function, *arguments) -> str:
    try:
        function(*arguments)
    except DataError as error:
        return str(error)
    return ""


def _count(rank, folder):
    dataset = UnlabeledImages(folder, views={"size": 16})
    dataset.unreadable_mask[[5, 7 + rank]] = 1  # one file found by both, one by each alone
    runner, hook = _Runner(dataset), UnreadableImagesHook(max_unreadable=0.2)
    hook.before_train(runner)
    return _error_of(hook.after_train_epoch, runner), dataset.unreadable


def test_two_processes_count_together_and_stop_together(folder):
    for message, names in run_processes(_count, 2, str(folder)):
        assert message.startswith("3 of 12 images")
        assert [name[-6:] for name in names] == ["05.png", "07.png", "08.png"]


def _start_with_other_images(rank, folder):
    dataset = UnlabeledImages(f"{folder}/*1.png" if rank else folder, views={"size": 16})
    return _error_of(UnreadableImagesHook().before_train, _Runner(dataset))


def test_processes_with_different_images_are_stopped_before_training(folder):
    for message in run_processes(_start_with_other_images, 2, str(folder)):
        assert message.startswith("The processes found different numbers of images: 12, 2, in")
