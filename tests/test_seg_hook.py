"""Evaluation during pretraining: right numbers, pictures, and a training that does not notice."""

import pytest
import torch
from coloured import write_coloured
from mmengine.runner import Runner
from PIL import Image
from tiny_training import DEMO, assert_same, tiny_options, write_pictures

from slotcon_plugin.engine.checkpoint import load_checkpoint_safely
from slotcon_plugin.engine.launch import fit_to_machine
from slotcon_plugin.engine.options import read_config
from slotcon_plugin.evaluation.batches import Reading
from slotcon_plugin.evaluation.networks import open_groups
from slotcon_plugin.evaluation.segmentation import unsupervised


def train(folder, name, hook=None):
    cfg = read_config(DEMO, tiny_options(folder / "pictures", folder / name))
    if hook:
        cfg.custom_hooks.append(hook)
    fit_to_machine(cfg)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


@pytest.fixture
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_scores_and_overlays_while_training(tmp_path, on_the_cpu):
    write_pictures(tmp_path / "pictures", count=8)
    data = write_coloured(tmp_path / "labelled", count=3)
    hook = dict(type="UnsupervisedSegHook", pictures=str(data / "pictures"))
    hook |= dict(labels=str(data / "labels"), kind="voc", size=64, interval=1, overlays=2)
    runner = train(tmp_path, "with", hook)
    train(tmp_path, "without")

    # the same numbers as tools/evaluate.py finds in the checkpoint
    (ours,) = [one for one in runner.hooks if type(one).__name__ == "UnsupervisedSegHook"]
    scores = ours.evaluate(runner)
    modes = ("one-to-one", "many-to-one")
    groups = open_groups(tmp_path / "with" / "epoch_2.pth")
    found = unsupervised(groups, ours.dataset, modes, Reading(quiet=True))
    for mode in modes:
        name = mode.replace("-", "_")
        assert scores[f"unsupervised/miou_{name}"] == pytest.approx(
            found["matchings"][mode]["miou"], abs=1e-3
        )
    assert scores["unsupervised/prototypes_used"] == found["prototypes_used"]
    assert runner.model.training

    # twice while training: in the log, as scalars, as pictures
    log = next((tmp_path / "with").glob("*/*.log")).read_text()
    assert log.count("Unsupervised segmentation of the 3 of 3 pictures") == 3
    drawn = sorted((tmp_path / "with").glob("*/vis_data/vis_image/groups_*.png"))
    assert [path.name for path in drawn] == [
        f"groups_{i}_{step}.png" for i in (0, 1) for step in (2, 4)
    ]
    assert Image.open(drawn[0]).size == (64, 64)

    # the training took the same steps as without it
    saved = [load_checkpoint_safely(tmp_path / n / "epoch_2.pth") for n in ("with", "without")]
    assert_same(saved[0]["state_dict"], saved[1]["state_dict"])
