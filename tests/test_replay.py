"""A step without a finite loss is kept and repeated."""

import math
from pathlib import Path

import pytest
import torch
from tiny_training import write_images

from benchmarks.processes import DEMO, run_processes
from benchmarks.small_benchmark import DET, pretraining_options, transfer_options, write_mini
from slotcon_plugin.apis.replay import replay
from slotcon_plugin.errors import CheckpointError, ConfigError, TrainingStopped
from slotcon_plugin.runtime.explain_errors import describe

# Scores that are divided by it overflow: the slot loss is lost, the grouping loss is not.
TEMPERATURE = "model.head.slot_loss.temperature=1e-42"


def _train(
    rank: int, launcher: str, options: list[str], config: Path = DEMO, backbone: str | None = None
) -> str:
    from slotcon_plugin.apis.train import train

    torch.cuda.is_available = lambda: False
    with pytest.raises(TrainingStopped) as stopped:
        train(config, launcher=launcher, cfg_options=options, backbone=backbone)
    return str(stopped.value)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_kept_step_is_repeated_bit_for_bit(tmp_path, processes, capsys):
    images, work_dir = write_images(tmp_path / "images"), tmp_path / "work"
    options = [*pretraining_options(images, work_dir), TEMPERATURE]
    options.append("default_hooks.loss_guard.patience=1")
    launcher = "pytorch" if processes > 1 else "none"
    messages = run_processes(_train, processes, launcher, options, connect=False)
    files = [work_dir / "nonfinite_step" / f"rank{rank}.pth" for rank in range(processes)]
    for message, file in zip(messages, files, strict=True):
        assert f"slotcon replay {file} repeats the first" in message
    assert sorted(files[0].parent.iterdir()) == files

    threads, state = torch.get_num_threads(), torch.get_rng_state()
    results = replay(files[-1])
    assert torch.get_num_threads() == threads and torch.equal(torch.get_rng_state(), state)
    for result in results:
        assert result.same == {"loss_group": True, "loss_slot": True}
        assert math.isfinite(result.losses["loss_group"])
        assert not math.isfinite(result.losses["loss_slot"])
    printed = capsys.readouterr().out
    assert printed.count("bitwise as in the training") == 2 * processes
    assert printed.count("rank 1:") == processes - 1
    if processes > 1:
        assert results[0].losses["loss_group"] != results[1].losses["loss_group"]
        files[0].unlink()
        with pytest.raises(CheckpointError, match=r"has no rank0\.pth of it"):
            replay(files[1])
        return
    (exact,) = replay(files[0], double=True)
    assert exact.losses["loss_group"] == pytest.approx(results[0].losses["loss_group"], rel=1e-4)
    assert math.isfinite(exact.losses["loss_slot"])  # 1e-42 is not too small for float64
    with pytest.raises(ConfigError, match="float16 is not computed on a CPU"):
        replay(files[0], amp="fp16")
    kept = files[0].read_bytes()
    _check_weights(files[0])
    files[0].write_bytes(kept)
    _check_foreign_types(files[0])


def _check_weights(file: Path) -> None:
    content = torch.load(file, weights_only=False)
    content["state_dict"]["neck.mlp.0.weight"][0] = math.inf
    torch.save(content, file)
    (result,) = replay(file)
    assert result.first.startswith("weight neck.mlp.0.weight")
    torch.save(content | {"inputs": {"args": [3], "kwargs": {}}}, file)
    with pytest.raises(TypeError, match="conv2d") as raised:
        replay(file)
    assert f"in the step of {file}" in describe(raised.value)
    content["config"]["neck"]["hidden_channels"] = 17
    torch.save(content, file)
    with pytest.raises(CheckpointError, match=r"rank0\.pth: its weights do not fit its model"):
        replay(file)
    content["config"]["neck"]["hidden_channels"] = 2**70
    torch.save(content, file)
    with pytest.raises(CheckpointError, match=r"rank0\.pth: its model cannot be built \("):
        replay(file)


def _check_foreign_types(file: Path) -> None:
    content = torch.load(file, weights_only=False)
    for kind in ("os.system", "mmengine.runner.Runner", "SlotCon2", None, "subprocess.SlotCon"):
        content["config"]["backbone"]["type"] = kind
        torch.save(content, file)
        with pytest.raises(CheckpointError, match="which is not registered"):
            replay(file)
    for meta in (
        {},
        content["meta"] | {"threads": -1},
        content["meta"] | {"threads": 2**30},
        content["meta"] | {"world_size": True},
    ):
        torch.save(content | {"meta": meta}, file)
        with pytest.raises(CheckpointError, match=r"is not a kept step: meta\."):
            replay(file)
    del content["inputs"]
    torch.save(content, file)
    with pytest.raises(CheckpointError, match="is not a kept step: inputs missing"):
        replay(file)


def test_a_detectors_step_is_repeated_bit_for_bit(tmp_path):
    """Its samples are objects of mmdet, and it samples boxes at random."""
    pytest.importorskip("mmdet")
    options = transfer_options(DET, write_mini(tmp_path / "mini"))
    options += ["default_hooks.loss_guard.patience=1", f"+work_dir={tmp_path / 'work'}"]
    options.append("model.roi_head.bbox_head.loss_cls.loss_weight=1e39")
    run_processes(_train, 1, "none", options, DET, "none", connect=False)
    file = tmp_path / "work" / "nonfinite_step" / "rank0.pth"
    (result,) = replay(file)
    assert len(result.same) == 5 and all(result.same.values())
    assert [name for name, loss in result.losses.items() if not math.isfinite(loss)] == ["loss_cls"]
    assert result.first.startswith("output of roi_head.bbox_head.loss_cls (CrossEntropyLoss)")
    with pytest.raises(ConfigError, match="does not compute in float64"):
        replay(file, double=True)
