"""Evaluation during pretraining: correct scores and images, and an unchanged training."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from colored import write_colored
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_teacher_sample import measured
from tiny_training import assert_same, write_images

from benchmarks.processes import CONFIGS, DEMO, ROOT, run_processes
from benchmarks.small_benchmark import pretraining_options
from slotcon_plugin.errors import ConfigError, DataError
from slotcon_plugin.evaluation.batches import LoaderOptions
from slotcon_plugin.evaluation.matching import MATCHINGS
from slotcon_plugin.evaluation.networks import open_encoder, open_groups
from slotcon_plugin.evaluation.retrieval import retrieve
from slotcon_plugin.evaluation.unsupervised_segmentation import unsupervised
from slotcon_plugin.functional.dense import upsampled_argmax
from slotcon_plugin.hooks.unsupervised_seg_hook import UnsupervisedSegHook
from slotcon_plugin.runtime.config_options import read_config
from slotcon_plugin.runtime.fit_machine import fit_to_machine
from slotcon_plugin.runtime.launch import leave_processes
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely
from slotcon_plugin.visualization.painting import overlay

PARTS = ("images", "labels")


def make_runner(folder, name, hook=None, launcher="none"):
    cfg = read_config(DEMO, pretraining_options(folder / "images", folder / name))
    if hook:
        cfg.custom_hooks = [hook]
    fit_to_machine(cfg, launcher)
    return Runner.from_cfg(cfg)


def train(*arguments):
    runner = make_runner(*arguments)
    runner.train()
    return runner


def write_data(folder):
    """Images to train on, and the hook with 5 labeled images and 4 others for its memory."""
    write_images(folder / "images", count=8)
    data, other = (
        write_colored(folder / name, count, seed)
        for name, count, seed in (("labeled", 5, 0), ("memory", 4, 1))
    )
    folders = {"": data, "train_": other}
    hook = {f"{prefix}{part}": str(f / part) for prefix, f in folders.items() for part in PARTS}
    return dict(type="UnsupervisedSegHook", **hook, kind="voc", size=64, interval=1, overlays=2)


def hook_of(runner):
    (ours,) = [one for one in runner.hooks if type(one).__name__ == "UnsupervisedSegHook"]
    return ours


def assert_the_checkpoint_scores(path, scores, hook):
    """The same numbers as tools/evaluate.py finds in the checkpoint."""
    found = unsupervised(open_groups(path), None, hook.dataset, LoaderOptions())
    for matching in MATCHINGS:
        name = f"unsupervised/miou_{matching.replace('-', '_')}"
        assert scores[name] == pytest.approx(found["matchings"][matching]["miou"], abs=1e-3)
    assert scores["unsupervised/prototypes_used"] == found["prototypes_used"]
    near = retrieve(
        open_encoder(str(path)), hook.train, hook.dataset, LoaderOptions(), memory=hook.memory
    )
    assert scores["retrieval/miou"] == pytest.approx(near["miou"], abs=1e-3)
    assert 0 < near["miou"] < 100


@pytest.fixture
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_scores_and_overlays_while_training(tmp_path, on_the_cpu):
    runner = train(tmp_path, "with", write_data(tmp_path))
    train(tmp_path, "without")
    hook = hook_of(runner)
    assert_the_checkpoint_scores(tmp_path / "with" / "epoch_2.pth", hook.evaluate(runner), hook)
    assert runner.model.training

    # twice while training: in the log
    log = next((tmp_path / "with").glob("*/*.log")).read_text()
    assert log.count("Evaluation on the 5 of 5 images") == 3  # and once more, above

    # in TensorBoard, scalars and images, which show the teacher's groups
    events = min((tmp_path / "with").glob("*/vis_data/events*"))
    board = EventAccumulator(str(events), size_guidance=dict(images=0)).Reload()
    for name in ("unsupervised/miou_one_to_one", "retrieval/miou"):
        assert [entry.step for entry in board.Scalars(name)] == [2, 4]
    assert sorted(board.Tags()["images"]) == ["groups", "groups_0", "groups_1"]
    last = board.Images("groups_1")[-1]
    drawn = np.asarray(Image.open(io.BytesIO(last.encoded_image_string)))
    image = hook.dataset[1]["inputs"]
    scores = open_groups(tmp_path / "with" / "epoch_2.pth")(image[None])
    (assignment,) = upsampled_argmax(scores, 64, 64)
    expected = overlay(image.permute(1, 2, 0).numpy(), assignment.numpy())
    assert (drawn == expected).all(axis=2).mean() > 0.99

    # the training took the same steps as without it
    saved = [load_checkpoint_safely(tmp_path / n / "epoch_2.pth") for n in ("with", "without")]
    assert_same(saved[0]["state_dict"], saved[1]["state_dict"])


def _worker(rank, folder, hook):
    runner = train(folder, "work", hook, "pytorch")
    # the processes' own batch-norm statistics are restored
    sizes = torch.stack([b.double().sum() for b in runner.model.module.teacher.buffers()])
    leave_processes()
    return sizes


def test_two_processes_score_what_one_scores(tmp_path):
    hook = write_data(tmp_path)
    buffers = run_processes(_worker, 2, tmp_path, hook, connect=False)
    lines = next((tmp_path / "work").glob("*/vis_data/scalars.json")).read_text().splitlines()
    scores = [entry for entry in map(json.loads, lines) if "retrieval/miou" in entry]
    assert [entry["step"] for entry in scores] == [1, 2]  # of the first process alone
    hook.pop("type")
    ours = UnsupervisedSegHook(**hook)
    assert_the_checkpoint_scores(tmp_path / "work" / "epoch_2.pth", scores[-1], ours)
    assert not torch.equal(*buffers)
    # and the first process alone draws groups and measures features
    files = {path.name for path in (tmp_path / "work" / "groups").iterdir()}
    assert files == {"epoch_0.png", "epoch_1.png", "epoch_2.png"}
    runner = make_runner(tmp_path, "one")
    weights = load_checkpoint_safely(tmp_path / "work" / "epoch_2.pth")["state_dict"]
    runner.model.load_state_dict(weights)
    last = [entry for entry in map(json.loads, lines) if "rankme" in entry][-1]
    found = pytest.approx((last["rankme"], last["alpha_req"]), rel=1e-6)
    assert measured(runner) == found


def test_too_few_images_are_found_before_the_training(tmp_path, monkeypatch):
    hook = UnsupervisedSegHook(**{k: v for k, v in write_data(tmp_path).items() if k != "type"})
    monkeypatch.setattr("slotcon_plugin.evaluation.batches.world_size", lambda: 5)
    with pytest.raises(ConfigError, match="5 processes for 4 images"):
        hook.before_train(None)


def test_broken_labels_are_found_before_the_training(tmp_path, on_the_cpu):
    hook = write_data(tmp_path)
    (tmp_path / "memory" / "labels" / "2.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"labels .*memory/labels/2\.png cannot be read"):
        train(tmp_path, "work", hook)
    assert not list((tmp_path / "work").glob("*.pth"))


class Breaking(Hook):
    """Overwrites the image during the training."""

    def __init__(self, file):
        self.file = file

    def before_train_epoch(self, runner):
        self.file.write_bytes(b"broken")


def test_a_failing_evaluation_does_not_cost_the_epoch(tmp_path, on_the_cpu):
    runner = make_runner(tmp_path, "work", write_data(tmp_path))
    runner.register_hook(Breaking(tmp_path / "labeled" / "images" / "3.png"))
    with pytest.raises(DataError, match="cannot read the image"):
        runner.train()
    assert load_checkpoint_safely(tmp_path / "work" / "epoch_1.pth")["meta"]["epoch"] == 1


def test_images_of_the_memory_are_not_scored(tmp_path):
    hook = {k: v for k, v in write_data(tmp_path).items() if not k.startswith(("type", "train"))}
    for name, numbers in (("some", "0 1 2"), ("other", "3 4"), ("mixed", "2 3")):
        (tmp_path / f"{name}.txt").write_text("\n".join(numbers.split()))
    some, other, mixed = (str(tmp_path / f"{name}.txt") for name in ("some", "other", "mixed"))
    assert len(UnsupervisedSegHook(**hook, names=some, train_names=other).train) == 2
    for names, shared in ((None, "3 of the 5"), (mixed, "1 of the 2")):
        with pytest.raises(ConfigError, match=f"{shared} images .* `names` and `train_names`"):
            UnsupervisedSegHook(**hook, names=names, train_names=some)


def test_the_config_in_the_docs(tmp_path, monkeypatch):
    """It has every hook of the config that it builds on, and the one that it adds can be built."""
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "configs").symlink_to(ROOT / "configs", target_is_directory=True)
    (tmp_path / "mine.py").write_text(shown)
    cfg, base = read_config(tmp_path / "mine.py"), read_config(CONFIGS / "slotcon_r50_coco.py")
    (added,) = cfg.custom_hooks
    assert cfg.default_hooks == base.default_hooks and "custom_hooks" not in base
    assert cfg.model == base.model

    monkeypatch.chdir(tmp_path)
    write_colored(tmp_path / "colored", count=5)
    labels = Path(added.labels)
    labels.with_suffix("").mkdir(parents=True)
    for i in range(5):
        Image.new("RGB", (64, 64)).save(labels.with_suffix("") / f"{i}.png")
    annotations = [dict(file_name=f"{i}.png", segments_info=[]) for i in range(5)]
    labels.write_text(json.dumps(dict(categories=[], annotations=annotations)))
    Path(added.images).parent.mkdir(parents=True)
    (tmp_path / "colored" / "images").rename(added.images)
    Path(added.names).write_text("0\n1\n2")
    Path(added.train_names).write_text("3\n4")
    hook = HOOKS.build(added)
    assert (len(hook.dataset), len(hook.train)) == (3, 2)
