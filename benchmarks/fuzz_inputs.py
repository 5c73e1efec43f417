"""Wrong inputs of the tools, drawn from a seed."""

import json
import random
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
    write_mini,
)

RESUME = "train {config} --resume {file} --work-dir {out}"
LOAD_FROM = "train {config} --work-dir {out} --cfg-options load_from={file}"
DRAW = "draw_groups {config} {file} --out {out}.png --images {images} --count 9"
STRICT = (RESUME, LOAD_FROM, DRAW)  # commands that use all tensors of a checkpoint
TRAIN = "train {config} --work-dir {out} --cfg-options train_dataloader.dataset.source={images}"
VISUALIZE = "visualize {file} --images {images} --out {out} --size 64 --overlays 2 --most-used 2 "
VISUALIZE += "--nearest 2 --quiet"
LABELS = "--images {images} --labels {labels} --train-list {list} --size 64 --quiet"
RETRIEVAL = f"evaluate retrieval {{file}} {LABELS} --memory 500 --neighbors 5"
PROBE = f"evaluate probe {{file}} {LABELS} --epochs 1 --lr 0.1"
EXPORT = "export {file} {out}.pth --part teacher --to "
BACKBONE = "train {seg} --backbone {file} --work-dir {out} --dry-run --cfg-options"
PLAN = "train {config} --work-dir {out} --seed 1 --amp off --dry-run"


@dataclass(frozen=True)
class Trial:
    """One command with one wrong input.

    Args:
        what: what is wrong, in words.
        command: a tool and its arguments.
        refused: whether success would be an error.
        check: is called after success; returns what is wrong with the result, if anything.
    """

    what: str
    command: list[str]
    refused: bool = False
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
            list=mini / "train2017.txt",
            seg=SEG,
        )
        self.transfer = transfer_options(SEG, mini)
        cfg = Config.fromfile(DEMO)
        options = pretraining_options(mini / "images", folder / "pretrained")
        pairs = dict(option.removeprefix("+").split("=", 1) for option in options)
        cfg.merge_from_dict({key: yaml.safe_load(value) for key, value in pairs.items()})
        cfg.dump(self.paths["config"])
        self.benchmark = small_benchmark(mini, folder / "bench")

    def command(self, template: str, **paths: Path) -> list[str]:
        """The words of a command, with the valid paths except for those that are given."""
        return [word.format(**(self.paths | paths)) for word in template.split()]

    def draw(self, kind: str, folder: Path, seed: str) -> Trial:
        """Write a wrong input of a kind into a folder, and return the command that meets it."""
        folder.mkdir(parents=True)
        return getattr(self, f"_{kind}")(folder, random.Random(seed))

    def _checkpoints(self, folder: Path, draw: random.Random) -> Trial:
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
        exports = (EXPORT + target for target in ("torchvision", "openmmlab", "timm"))
        template = draw.choice((*STRICT, RESUME, *exports, RETRIEVAL, VISUALIZE, BACKBONE))
        command = self.command(template, file=file, out=folder / "out")
        return Trial(
            f"{' '.join(template.split()[:2])}, {way}: {what}",
            command + self.transfer if template == BACKBONE else command,
            refused=way == "tensor" and template in STRICT,
            check=lambda: _differs(file, weights) if way in ("bytes", "member") else None,
        )

    def _images(self, folder: Path, draw: random.Random) -> Trial:
        images = folder / "images"
        images.mkdir()
        for i in range(8):
            side = draw.choice((32, 48, 64))
            noise = np.random.default_rng(i).integers(0, 256, (side, 48, 3), dtype=np.uint8)
            Image.fromarray(noise).save(images / f"{i}.jpg")
        what = damage_image(images, draw)
        template = draw.choice((TRAIN, DRAW, VISUALIZE))
        return Trial(what, self.command(template, images=images, out=folder / "out"))

    def _labels(self, folder: Path, draw: random.Random) -> Trial:
        root = write_mini(folder / "mini")
        config, file = draw.choice(((DET, "instances.json"), (SEG, "voc21"), (None, "voc21")))
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
        paths = dict(images=root / "images", labels=root / "voc21", list=root / "train2017.txt")
        command = self.command(RETRIEVAL, **paths | dict(file="random:resnet18"))
        if config is not None:
            command = self.command(BACKBONE, seg=config, file="none", out=folder / "out")
            command += transfer_options(config, root)
        return Trial(f"{file}: {what}", command)

    def _yaml(self, folder: Path, draw: random.Random) -> Trial:
        file = folder / "benchmark.yaml"
        content = json.loads(json.dumps(self.benchmark | dict(work_dir=str(folder / "out"))))
        if draw.random() < 0.3:
            data, what = damage_bytes(yaml.safe_dump(content, sort_keys=False).encode(), draw)
            file.write_bytes(data)
        else:
            what = "; ".join(damage_tree(content, draw) for _ in range(draw.choice((1, 1, 2))))
            text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
            file.write_bytes(text.encode(errors="surrogateescape"))
        return Trial(what, self.command("benchmark {file} --dry-run", file=file))

    def _options(self, folder: Path, draw: random.Random) -> Trial:
        templates = (PLAN, BACKBONE, DRAW, VISUALIZE, RETRIEVAL, PROBE, EXPORT + "timm")
        template = draw.choice((*templates, "benchmark {file} --dry-run"))
        words = self.command(template, out=folder / "out")
        if words[0] == "train" and draw.random() < 0.7:
            cfg = Config.fromfile(words[1])
            paths = [path.lstrip(".") for _, _, path in nodes(cfg.to_dict())]
            key = draw.choice([path for path in paths if "source" not in path])
            if draw.random() < 0.15:  # misspelled
                at = draw.randrange(len(key))
                key = draw.choice(("", "+")) + key[:at] + key[at + 1 :]
            option = f"{key}={draw.choice(WORDS)}"
            options = self.transfer if template == BACKBONE else ["--cfg-options"]
            return Trial(option, [*words, *options, option])
        at = draw.randrange(1, len(words))
        before, words[at] = words[at], draw.choice(WORDS)
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
