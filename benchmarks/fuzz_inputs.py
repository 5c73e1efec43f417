"""Wrong inputs of the tools, drawn from a seed."""

import json
import random
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from mmengine.config import Config
from PIL import Image

from benchmarks.fuzz_damage import (
    WORDS,
    damage_bytes,
    damage_image,
    damage_map,
    damage_tensor,
    damage_tree,
    near,
    nodes,
    rewrite_zip,
)
from benchmarks.processes import DEMO
from benchmarks.small_benchmark import (
    DET,
    SEG,
    pretraining_options,
    small_benchmark,
    transfer_options,
    write_benchmark,
    write_mini,
)

RESUME = "train {config} --resume {file} --work-dir {out}"
LOAD_FROM = "train {config} --work-dir {out} --cfg-options load_from={file}"
DRAW = "draw_groups {config} {file} --out {out}.png --images {images} --count 9"
STRICT = (RESUME, LOAD_FROM, DRAW)  # commands that use all tensors of a checkpoint
TRAIN = "train {config} --work-dir {out} --cfg-options train_dataloader.dataset.source={images}"
VISUALIZE = "visualize {file} --images {images} --out {out} --size 64 --overlays 2 --most-used 2 "
VISUALIZE += "--nearest 2 --quiet"
LABELS = "--images {images} --labels {labels} --train-list {train} --list {test} --size 64 "
LABELS += "--quiet --device cpu --workers 0 --batch-size 2"
RETRIEVAL = f"evaluate retrieval {{file}} {LABELS} --memory 500 --neighbors 5 --seed 1"
PROBE = f"evaluate probe {{file}} {LABELS} --epochs 1 --lr 0.1 --stage 2"
CLUSTER = f"evaluate overcluster {{file}} {LABELS} --clusters 3 --labels-format voc --directions 99"
EXPORT = "export {file} {out}.pth --to "
EXPORTS = (EXPORT + "openmmlab --part teacher", EXPORT + "detectron2", EXPORT + "published")
BACKBONE = "train {seg} --backbone {file} --work-dir {out} --dry-run --cfg-options"
PLAN = "train {config} --work-dir {out} --seed 1 --amp off --hang-timeout 9 --dry-run"
BENCHMARK = "benchmark {file} --dry-run"
# What a kind of input is given to.
TEMPLATES = {
    "checkpoints": (*STRICT, RESUME, *EXPORTS, RETRIEVAL, CLUSTER, VISUALIZE, BACKBONE),
    "images": (TRAIN, DRAW, VISUALIZE),
    "labels": (RETRIEVAL, PROBE, BACKBONE),
    "yaml": (BENCHMARK,),
    "options": (PLAN, BACKBONE, DRAW, VISUALIZE, RETRIEVAL, PROBE, CLUSTER, EXPORTS[0], BENCHMARK),
}
VALID = 0.08  # share of the runs in which nothing is wrong
# The encoder of the checkpoints has two stages; a transfer that reads it has no more.
STAGES = ("model.backbone.num_stages=2", "model.backbone.out_indices=(0,1)")
STAGES += ("model.backbone.strides=(1,2)", "model.backbone.dilations=(1,1)")
STAGES += ("model.decode_head.in_channels=128", "model.decode_head.in_index=1")


@dataclass(frozen=True)
class Trial:
    """One command with one wrong input.

    Args:
        what: what is wrong, in words.
        command: a tool and its arguments.
        refused: whether success would be an error.
        accepted: whether a refusal would be one, because nothing is wrong.
        check: is called after success; returns what is wrong with the result, if anything.
    """

    what: str
    command: list[str]
    refused: bool = False
    accepted: bool = False
    check: Callable[[], str | None] = lambda: None


class Inputs:
    """Valid inputs of every kind, from which wrong ones are made.

    Args:
        folder: where they are written.
    """

    def __init__(self, folder: Path):
        mini = write_mini(folder / "mini")
        self.paths = dict(
            config=folder / "pretrain.py",
            file=folder / "pretrained" / "epoch_2.pth",
            images=mini / "images",
            labels=mini / "voc21",
            train=folder / "train.txt",
            test=folder / "test.txt",
            seg=SEG,
        )
        self.paths["train"].write_text("000\n001\n002\n")
        self.paths["test"].write_text("003\n")
        self.transfer = [*transfer_options(SEG, mini), *STAGES]
        cfg = Config.fromfile(DEMO)
        options = pretraining_options(mini / "images", folder / "pretrained")
        pairs = dict(option.removeprefix("+").split("=", 1) for option in options)
        cfg.merge_from_dict({key: yaml.safe_load(value) for key, value in pairs.items()})
        cfg.dump(self.paths["config"])
        self.benchmark = small_benchmark(mini, folder / "bench")
        self.plan = write_benchmark(folder / "benchmark.yaml", self.benchmark)

    def command(self, template: str, **paths: Path) -> list[str]:
        """The words of a command, with the valid paths except for those that are given."""
        file = self.plan if template == BENCHMARK else self.paths["file"]
        return [word.format(**(self.paths | dict(file=file) | paths)) for word in template.split()]

    def draw(self, kind: str, folder: Path, seed: str) -> Trial:
        """Write a wrong input of a kind into a folder, and return the command that meets it."""
        folder.mkdir(parents=True)
        draw = random.Random(seed)
        template = draw.choice(TEMPLATES[kind])
        if draw.random() < VALID:
            command = self.command(template, out=folder / "out")
            command += self.transfer if template == BACKBONE else []
            return Trial(f"valid: {shlex.join(command[:2])}", command, accepted=True)
        return getattr(self, f"_{kind}")(folder, draw, template)

    def _checkpoints(self, folder: Path, draw: random.Random, template: str) -> Trial:
        valid, file = self.paths["file"], folder / "damaged.pth"
        content = torch.load(valid, weights_only=False)
        weights = dict(content["state_dict"])
        way = draw.choice(("bytes", "bytes", "tensor", "tensor", "others", "others", "member"))
        if way == "bytes":
            data, what = damage_bytes(valid.read_bytes(), draw)
            file.write_bytes(data)
        elif way == "member":
            what = rewrite_zip(valid, file, draw)
        elif way == "tensor":
            what = damage_tensor(content["state_dict"], draw)
            torch.save(content, file)
        else:
            others = {key: value for key, value in content.items() if key != "state_dict"}
            what = damage_tree(others, draw)
            torch.save({**others, "state_dict": weights}, file)
        command = self.command(template, file=file, out=folder / "out")
        return Trial(
            f"{' '.join(template.split()[:2])}, {way}: {what}",
            command + self.transfer if template == BACKBONE else command,
            refused=way == "tensor" and template in STRICT,
            check=lambda: _differs(file, weights) if way in ("bytes", "member") else None,
        )

    def _images(self, folder: Path, draw: random.Random, template: str) -> Trial:
        images = folder / "images"
        images.mkdir()
        for i in range(8):
            side = draw.choice((32, 48, 64))
            noise = np.random.default_rng(i).integers(0, 256, (side, 48, 3), dtype=np.uint8)
            Image.fromarray(noise).save(images / f"{i}.jpg")
        what = damage_image(images, draw)
        return Trial(what, self.command(template, images=images, out=folder / "out"))

    def _labels(self, folder: Path, draw: random.Random, template: str) -> Trial:
        root = write_mini(folder / "mini")
        config = draw.choice((DET, SEG)) if template == BACKBONE else None
        file = "instances.json" if config == DET else "voc21"
        if file == "voc21":
            file = f"voc21/{draw.randrange(4):03}.png"
            what = damage_map(root / file, draw)
        elif draw.random() < 0.2:
            data, what = damage_bytes((root / file).read_bytes(), draw)
            (root / file).write_bytes(data)
        else:
            content = json.loads((root / file).read_text())
            what = damage_tree(content, draw)
            (root / file).write_text(json.dumps(content))
        paths = dict(images=root / "images", labels=root / "voc21", out=folder / "out")
        if config is not None:
            paths |= dict(seg=config, file="none")
        command = self.command(template, **paths)
        command += [] if config is None else transfer_options(config, root)
        return Trial(f"{file}: {what}", command)

    def _yaml(self, folder: Path, draw: random.Random, template: str) -> Trial:
        file = folder / "benchmark.yaml"
        content = json.loads(json.dumps(self.benchmark | dict(work_dir=str(folder / "out"))))
        if draw.random() < 0.3:
            data, what = damage_bytes(yaml.safe_dump(content, sort_keys=False).encode(), draw)
            file.write_bytes(data)
        else:
            what = "; ".join(damage_tree(content, draw) for _ in range(draw.choice((1, 1, 2))))
            text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
            file.write_bytes(text.encode(errors="surrogateescape"))
        return Trial(what, self.command(template, file=file))

    def _options(self, folder: Path, draw: random.Random, template: str) -> Trial:
        words = self.command(template, out=folder / "out")
        if words[0] == "train" and draw.random() < 0.8:
            cfg = Config.fromfile(words[1])
            entries = {path.lstrip("."): node[key] for node, key, path in nodes(cfg.to_dict())}
            key = draw.choice([path for path in entries if "source" not in path])
            value = entries[key]
            if draw.random() < 0.1:  # misspelled
                at = draw.randrange(len(key))
                key = draw.choice(("", "+")) + key[:at] + key[at + 1 :]
            option = f"{key}={draw.choice(WORDS) if draw.random() < 0.4 else near(value, draw)}"
            options = self.transfer if template == BACKBONE else ["--cfg-options"]
            return Trial(option, [*words, *options, option])
        values = [i for i, word in enumerate(words[:-1], 1) if word.startswith("--")]
        at = draw.choice(values if values and draw.random() < 0.8 else range(1, len(words)))
        before = words[at]
        words[at] = draw.choice((*WORDS, *map(str, range(5)), str(near(before, draw))))
        words += self.transfer if template == BACKBONE else []
        return Trial(f"{words[0]}: {before} -> {words[at]!r}", words)


def _differs(file: Path, weights: dict[str, torch.Tensor]) -> str | None:
    """What of these weights a damaged file that was accepted changes."""
    from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely

    found = load_checkpoint_safely(file)["state_dict"]
    same = found.keys() == weights.keys() and all(
        torch.equal(value, found[name]) for name, value in weights.items()
    )
    return None if same else "other weights were accepted"
