"""FreezeHook: the encoder's weights are kept for the first epochs, the others are trained."""

import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.model import BaseModel
from mmengine.runner import Runner
from tiny_training import train_apart, write_images

from benchmarks.processes import DEMO
from benchmarks.small_benchmark import pretraining_options
from slotcon_plugin.apis.train import train
from slotcon_plugin.errors import ConfigError
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely


def test_the_encoder_is_trained_after_the_first_epoch(tmp_path):
    images = write_images(tmp_path / "images", count=8)
    options = pretraining_options(images, tmp_path / "work", epochs=2)
    options += ["+default_hooks.freeze.type=FreezeHook", "+default_hooks.freeze.epochs=1"]
    train_apart(1, DEMO, cfg_options=options)
    moved = {}
    for epoch in (1, 2):
        saved = load_checkpoint_safely(tmp_path / "work" / f"epoch_{epoch}.pth")["state_dict"]
        # The teacher starts equal to the student and follows it.
        moved[epoch] = {
            name.split(".")[0]
            for name in saved
            if f"teacher.{name}" in saved
            and not name.endswith(("running_mean", "running_var"))
            and not torch.equal(saved[name], saved[f"teacher.{name}"])
        }
    assert moved == {1: {"neck"}, 2: {"neck", "backbone"}}


def test_a_training_that_would_be_frozen_as_a_whole(tmp_path):
    """It is refused in dry runs, too."""
    images = write_images(tmp_path / "images", count=8)
    options = pretraining_options(images, tmp_path / "work", epochs=2)
    options += ["+default_hooks.freeze.type=FreezeHook", "+default_hooks.freeze.epochs=2"]
    message = (
        r"FreezeHook\(epochs=2\) .* ends after 2 \(train_cfg.max_epochs\).* its epochs below 2"
    )
    with pytest.raises(ConfigError, match=message):
        train(DEMO, cfg_options=options, dry_run=True, step=False)
    assert not (tmp_path / "work").exists()


class Bias(BaseModel):
    """One number, with or without a backbone."""

    def __init__(self, name: str) -> None:
        super().__init__()
        setattr(self, name, torch.nn.Linear(1, 1))

    def forward(self, inputs, data_samples=None, mode="loss"):
        return dict(loss=sum(p.sum() for p in self.parameters()))


@pytest.mark.parametrize(
    ("name", "length", "message"),
    [
        (
            "backbone",
            dict(type="IterBasedTrainLoop", max_iters=9),
            r"iterations \(max_iters=9\) and no",
        ),
        ("encoder", dict(by_epoch=True, max_epochs=9), "the model, Bias, has no `backbone`"),
    ],
)
def test_trainings_without_epochs_or_backbone(name, length, message, tmp_path):
    data = [dict(inputs=torch.zeros(1))]
    runner = Runner(
        Bias(name),
        work_dir=str(tmp_path),
        train_dataloader=dict(
            dataset=data,
            batch_size=1,
            sampler=DefaultSampler(data),
            collate_fn=dict(type="default_collate"),
        ),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        train_cfg=length,
        custom_hooks=[dict(type="FreezeHook", epochs=5)],
        experiment_name=f"freeze_{name}",
    )
    with pytest.raises(ConfigError, match=message):
        runner.train()
