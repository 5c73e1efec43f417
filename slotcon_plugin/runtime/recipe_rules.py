"""Rules by which a pretraining on one's own images follows from their number and the machine.

N images, P processes, B images in an optimizer step, E epochs, S steps in all, V = B · S images
seen. The rules connect recipes that were run: [paper] is SlotCon's on COCO (Wen et al., NeurIPS
2022: N = 118,287, B = 512, E = 800, S = 184,800, K = 256, peak lr 2.0) and on ImageNet (N =
1,281,167, B = 512, E = 100 or 200, S = 250,000 or 500,000); [small] was searched on CamVid (N =
701, B = 32, S = 630, K = 64, lr 2.0: docs/results.md); [demo] is slotcon_r18_demo.py (eight images,
B = 16, S = 200, K = 16, lr 3.0). Between them nothing was searched.

- length: the budget. A time is divided by the seconds of an epoch, from steps that are timed on
  this machine; a tenth of it is left for them, the start, checkpoints and logs. "paper": 800 epochs
  as on COCO, fewer for more than 320,000 images, so that V is at most 200 epochs of ImageNet.
- B: the power of two nearest to N / 20, in [16, 512]: about 20 steps an epoch ([small] has 21), at
  most the paper's B. A short training has smaller batches, down to 16, for at least 600 steps
  ([small] has 630). Divided evenly among the processes, in which it must fit into 80 % of the
  memory, as estimated.
- rounds: an epoch shows each image so often that it has one batch; 1 if N ≥ B.
- K, prototypes: the power of two nearest to 11 N^0.27, in [16, 1024]: 64 for [small], 256 for COCO.
  (The paper has 2,048 for ImageNet, whose images are of 1,000 kinds of objects.) The same for a
  decoder's head.
- lr, peak: B / 256 · sqrt(184,800 / S), at most 2, at least B / 256: the paper's for [paper], 2.0
  for [small], 1.9 for [demo]. LARS makes the size of a step independent of the gradient's, so a
  short training needs a larger lr to go far enough.
- momentum of the teacher at the first step: 1 - 1 / m, m = S / 6 in [10, 100]: the teacher averages
  over at most a sixth of the training. 0.99, as in [paper] and [small], from 600 steps on.
- warm-up: 5 epochs as in [paper], at least 100 steps, but at most a sixth of the training, as in
  [small].
- checkpoints: ten in a training.
"""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

from mmengine.config import Config

from ..errors import ConfigError, did_you_mean
from .config_leaves import leaves, without_indices
from .text_formats import describe_duration

AUTO = "auto"  # a config's entry with this value follows from the rules
# Field of Recipe -> entry of a config.
ENTRIES = dict(
    batch="train_dataloader.batch_size",
    rounds="train_dataloader.sampler.rounds",
    epochs="train_cfg.max_epochs",
    prototypes="model.head.prototypes.num_prototypes",
    decoder_prototypes="model.decoder_head.prototypes.num_prototypes",
    lr="optim_wrapper.optimizer.lr",
    base="auto_scale_lr.base_batch_size",
    momentum="model.teacher_momentum",
    warmup="param_scheduler.warmup",
    interval="default_hooks.checkpoint.interval",
)
PAPER = "paper"
SECONDS = {"min": 60, "h": 3600, "day": 86_400}
UNITS = dict.fromkeys(("min", "mins", "minute", "minutes"), "min")
UNITS |= dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h")
UNITS |= dict.fromkeys(("d", "day", "days"), "day") | dict.fromkeys(("epoch", "epochs"), "epochs")

FEWEST_STEPS, PAPER_STEPS = 600, 184_800
PAPER_EPOCHS, MOST_SEEN = 800, 200 * 1_281_167
LEAST_BATCH, MOST_BATCH = 16, 512
MOST_LR = 2.0
USED_TIME = 0.9


class Budget(NamedTuple):
    """How long a training may be: a number of "epochs" or of a unit of time, or "paper"."""

    number: float
    unit: str

    @classmethod
    def read(cls, text: str, name: str = "--budget") -> "Budget":
        """Read 45min, 3h, 2days, 200epochs, or paper; a ConfigError says what was expected."""
        expected = "expected a number with its unit, as 45min, 3h, 2days or 200epochs, or 'paper'"
        found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)\s*", str(text).lower())
        if str(text).strip().lower() == PAPER:
            return cls(0, PAPER)
        if not found:
            raise ConfigError(f"{name} is {text!r}, {expected}.")
        number, unit = float(found[1]), UNITS.get(found[2])
        if unit is None:
            close = did_you_mean(found[2], ("min", "h", "days", "epochs"))
            raise ConfigError(f"{name} is {text!r}, {expected}.{close}")
        if number == 0 or (unit == "epochs" and number != int(number)):
            what = "a whole number of epochs" if unit == "epochs" else "a time"
            raise ConfigError(f"{name} is {text!r}, expected {what} above 0.")
        return cls(number, unit)

    @property
    def seconds(self) -> float | None:
        """None for one that is no time."""
        return self.number * SECONDS[self.unit] if self.unit in SECONDS else None

    def __str__(self) -> str:
        return PAPER if self.unit == PAPER else f"{self.number:g}{self.unit}"


class Setup(NamedTuple):
    """What the rules depend on.

    Args:
        images: N.
        processes: P.
        accumulated: iterations of an optimizer step.
        budget: of the training.
        image_seconds: time of the machine for one image of a step; None: not known.
        largest: images of a process that fit into its memory.
    """

    images: int
    processes: int = 1
    accumulated: int = 1
    budget: Budget = Budget(0, PAPER)
    image_seconds: float | None = None
    largest: int = MOST_BATCH


class Recipe(NamedTuple):
    """The values of a training; see the module for each."""

    batch: int  # of a process
    rounds: int
    epochs: int
    prototypes: int
    decoder_prototypes: int
    lr: float
    base: int  # the images of a step for which lr is
    momentum: float
    warmup: float  # epochs
    interval: int  # of checkpoints, epochs


def derive(setup: Setup, **given: float) -> tuple[Recipe, list[str]]:
    """Apply the rules; `given` are values of `Recipe` that do not follow from them.

    Returns the recipe, and a line for each value that was derived. A ConfigError if the budget is
    shorter than one epoch.
    """
    images, parts, lines = setup.images, setup.processes * setup.accumulated, []

    def choose(name: str, value: Callable[[], float], reason: str = "") -> float:
        found = given[name] if name in given else value()
        if name not in given and reason:
            lines.append(reason.format(found))
        return found

    each = choose("batch", lambda: _batch(setup, _views(setup, given.get("epochs"))))
    batch = each * parts
    if "batch" not in given:
        lines.append(
            f"batch {batch}: about images / 20 = {images / 20:.4g}, {LEAST_BATCH} to {MOST_BATCH}, "
            f"for {FEWEST_STEPS} steps or more"
            + f"; {setup.largest} fit into a process's memory"
            * (setup.largest < MOST_BATCH)
        )
    together = each * setup.processes
    rounds = choose("rounds", lambda: -(-together // images))
    if rounds > 1 and "rounds" not in given:
        lines.append(f"rounds {rounds}: of so few images each is shown {rounds} times an epoch")
    length = max(1, -(-images * rounds // setup.processes) // each)  # iterations of an epoch
    epochs = choose("epochs", lambda: _epochs(setup, length * together))
    steps = max(1, epochs * length // setup.accumulated)
    if "epochs" not in given:
        few = f"; {FEWEST_STEPS} or more are needed to learn much" * (steps < FEWEST_STEPS)
        why = _reason(setup, length * together)
        lines.append(f"epochs {epochs:,}: {why}; {steps:,} steps{few}")
    prototypes = choose(
        "prototypes",
        lambda: _power_of_two(11 * images**0.27, 16, 1024),
        "prototypes {}: about 11 x images^0.27, 16 to 1024",
    )
    recipe = Recipe(
        batch=each,
        rounds=rounds,
        epochs=epochs,
        prototypes=prototypes,
        decoder_prototypes=choose("decoder_prototypes", lambda: prototypes),
        lr=choose(
            "lr",
            lambda: _peak(batch / 256, steps),
            f"learning rate {{:.3g}}: batch / 256 x sqrt({PAPER_STEPS:,} / steps), at least batch "
            f"/ 256, at most {MOST_LR:g} if that is more",
        ),
        base=choose("base", lambda: batch),
        momentum=choose(
            "momentum",
            lambda: 1 - 1 / min(max(steps / 6, 10), 100),
            "teacher momentum {:.3g}: over a sixth of the steps, 10 to 100",
        ),
        warmup=choose(
            "warmup",
            lambda: min(max(5, 100 / length), epochs / 6),
            "warm-up {:.3g} epochs: 5, at least 100 steps, at most a sixth of the training",
        ),
        interval=choose(
            "interval", lambda: max(1, epochs // 10), "a checkpoint every {} epochs: ten in all"
        ),
    )
    return recipe, lines


def auto_entries(cfg: Config) -> dict[str, str]:
    """The entries "auto" of a config: from their keys, with indices of lists, to `Recipe`'s fields.

    An entry of a list, as of several schedules, has the field of one without a list.
    """
    auto = {key: without_indices(key) for key, value in leaves(cfg._cfg_dict) if value == AUTO}
    return {
        k: name for name, entry in ENTRIES.items() for k, plain in auto.items() if plain == entry
    }


def fill_auto(cfg: Config, values: dict[str, object] | None = None, images: int = 1000) -> None:
    """Replace entries "auto" of a config that is not trained: by `values`, which have the keys of a
    config, or as for a number of images."""
    usual = derive(Setup(images))[0]._asdict()
    auto = {key: usual[name] for key, name in auto_entries(cfg).items()}
    cfg.merge_from_dict({key: (values or {}).get(key, value) for key, value in auto.items()})


def _power_of_two(value: float, least: int, most: int) -> int:
    return min(max(2 ** round(math.log2(value)), least), most)


def _views(setup: Setup, epochs: int | None) -> float:
    """V, before the batch is known."""
    budget = setup.budget
    if epochs or budget.unit == "epochs":
        return (epochs or budget.number) * setup.images
    if budget.unit == PAPER or setup.image_seconds is None:
        return _paper_epochs(setup.images) * setup.images
    return USED_TIME * budget.seconds / setup.image_seconds


def _paper_epochs(images: int) -> int:
    return max(1, min(PAPER_EPOCHS, MOST_SEEN // images))


def _peak(paper: float, steps: int) -> float:
    return max(paper, min(MOST_LR, paper * math.sqrt(PAPER_STEPS / steps)))


def _batch(setup: Setup, seen: float) -> int:
    parts = setup.processes * setup.accumulated
    wanted = min(setup.images / 20, seen / FEWEST_STEPS)
    total = _power_of_two(max(wanted, 1), LEAST_BATCH, MOST_BATCH)
    return min(_power_of_two(max(total / parts, 1), 1, MOST_BATCH), setup.largest)


def _epochs(setup: Setup, epoch_images: int) -> int:
    budget = setup.budget
    if budget.unit == "epochs":
        return int(budget.number)
    if budget.unit == PAPER:
        return _paper_epochs(setup.images)
    if setup.image_seconds is None:
        return 1
    epoch = epoch_images * setup.image_seconds
    epochs = int(USED_TIME * budget.seconds / epoch)
    if epochs < 1:
        raise ConfigError(
            f"The budget of {budget} is shorter than one epoch: {setup.images:,} images take about "
            f"{describe_duration(epoch)} on this machine. Give a longer --budget, or fewer images: "
            "--data with a list file."
        )
    return epochs


def _reason(setup: Setup, epoch_images: int) -> str:
    budget = setup.budget
    if budget.unit == "epochs":
        return "as the budget says"
    if budget.unit == PAPER:
        return f"{PAPER_EPOCHS} as in the paper, fewer of more than 320,000 images"
    if setup.image_seconds is None:
        return f"how many are {budget} is not known without timed steps"
    seconds = epoch_images * setup.image_seconds
    return f"{USED_TIME:.0%} of {budget}, {seconds:.3g} s each"
