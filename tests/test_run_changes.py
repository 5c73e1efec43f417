"""What a resume compares with the checkpoint's run."""

import itertools

import pytest
import torch
from mmengine.config import Config
from tiny_training import write_images

from benchmarks.processes import DEMO
from benchmarks.small_benchmark import DET, pretraining_options
from slotcon_plugin.apis.train import train
from slotcon_plugin.checkpoints.run_changes import describe_run, find_changes
from slotcon_plugin.datasets.unlabeled_images import UnlabeledImages
from slotcon_plugin.runtime.run_command import run_command

RUN = dict(processes=2, images=10, names="ab")
runs = itertools.count()


def changed(config, run=RUN, saved_run=RUN, **entries):
    before, now = Config.fromfile(config), Config.fromfile(config)
    now.merge_from_dict({key.replace("__", "."): value for key, value in entries.items()})
    saved = {"meta": {"cfg": before.pretty_text, "run": saved_run}}
    return find_changes(saved, now, run)


@pytest.mark.parametrize(
    ("group", "entries", "line"),
    [
        ("result", dict(model__teacher_momentum=0.5), "model.teacher_momentum was 0.9, now 0.5"),
        ("result", dict(train_dataloader__dataset__views__size=8), "views.size was 128, now 8"),
        ("result", dict(train_dataloader__batch_size=5), "global batch was 32, now 10"),
        ("result", dict(optim_wrapper__accumulative_counts=3), "global batch was 32, now 96"),
        ("result", dict(optim_wrapper__clip_grad=dict(max_norm=1)), "max_norm was None, now 1"),
        ("result", dict(run=RUN | dict(images=11)), "number of images was 10, now 11"),
        ("result", dict(run=RUN | dict(names="cd")), "the 10 images have other file names"),
        ("result", dict(run=RUN | dict(processes=1)), "global batch was 32, now 16"),
        ("optimizer", dict(optim_wrapper__optimizer__weight_decay=3), "was 1e-05, now 3"),
        ("others", dict(optim_wrapper__type="OptimWrapper"), "now 'OptimWrapper'"),
        ("others", dict(run=RUN | dict(processes=1)), "processes was 2, now 1"),
        ("others", dict(default_hooks__logger__interval=3), "logger.interval was 10, now 3"),
        ("others", dict(train_dataloader__dataset__source="/b"), "dataset.source was"),
    ],
)
def test_every_change_has_a_line(group, entries, line):
    found = getattr(changed(DEMO, **entries), group)
    assert any(line in one for one in found), found


def test_numbers_are_without_the_rounding_of_a_product():
    found = changed(DEMO, optim_wrapper__optimizer__lr=0.1 * 3)  # 0.30000000000000004
    assert found.optimizer == ["optim_wrapper.optimizer.lr was 3.0, now 0.3"]
    assert changed(DEMO, optim_wrapper__optimizer__lr=3.0 + 1e-15) == ([], [], [])


def test_what_is_equal_or_depends_on_the_machine_has_no_line():
    for config in (DEMO, DET):
        free = dict(train_dataloader__num_workers=9, work_dir="b", load_from="c")
        assert changed(config, **free) == ([], [], [])
        assert changed(config, saved_run=None) == ([], [], [])  # written by an earlier version
    assert find_changes({"meta": {}}, Config.fromfile(DEMO), RUN) == ([], [], [])


def test_names_are_compared_and_folders_are_not(tmp_path):
    one = describe_run(UnlabeledImages(write_images(tmp_path / "a", 3)))
    assert one == describe_run(UnlabeledImages(write_images(tmp_path / "b", 3)))
    (tmp_path / "b" / "001.png").rename(tmp_path / "b" / "001b.png")
    assert one != describe_run(UnlabeledImages(tmp_path / "b"))
    assert (one["images"], one["processes"]) == (3, 1)


def test_another_training_is_resumed_on_request_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    images = write_images(tmp_path / "images")

    def start(*changes, **options):
        small = [*pretraining_options(images, tmp_path / "work"), *changes]
        small.append(f"+experiment_name=changes{next(runs)}")
        status = run_command(lambda: train(DEMO, cfg_options=small, **options))
        output = capsys.readouterr()
        return status, output.out + output.err

    assert start()[0] == 0
    (tmp_path / "work" / "epoch_2.pth").unlink()
    change = "model.teacher_momentum=0.5"
    for dry_run in (False, True):
        status, output = start(change, resume="auto", dry_run=dry_run)
        assert status == 1
        assert "of another training: model.teacher_momentum was 0.99, now 0.5." in output
    allow = "+default_hooks.resume_check.allow_changes=True"
    status, output = start(change, allow, resume="auto", seed=4)
    assert status == 0
    assert "resumed with a change: model.teacher_momentum was 0.99, now 0.5" in output
    assert output.count("resumed with a change") == 2 and "seed was 0, now 4" in output
    (tmp_path / "work" / "epoch_2.pth").unlink()
    assert "resumed with a change" not in start(resume="auto")[1]
