"""SlotCon in a few minutes: a short pretraining of a small ResNet, and figures of its groups."""

import random
import time
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from ..datasets.sample_images import sample_photographs
from ..datasets.sources import list_images
from ..hooks.progress_bar_hook import progress_shown
from ..runtime.config_options import read_config, type_name
from ..runtime.config_rules import SEED, check_value, whole
from ..runtime.fit_machine import fit_to_machine
from ..runtime.launch import announce
from ..runtime.process_state import process_state_kept
from ..runtime.scalars import read_curves
from ..runtime.work_dir import claim, find_replaced, move_aside
from ..visualization.curves import draw_losses
from ..visualization.figures import save_png
from ..visualization.groups import LARGEST_SHORT_SIDE, draw_groups, group_photographs
from .draw_groups import MAX_LONG_SIDE, read_first
from .training_plan import check_enough_images

CONFIG = "slotcon_r18_demo"
MOST_IMAGES = 160  # a random choice of a larger folder
SHOWN = 6  # images in the figure


def demo(
    data: str | None = None,
    work_dir: str | Path = "work_dirs/demo",
    steps: int = 200,
    seed: int = 0,
    max_long_side: int = MAX_LONG_SIDE,
) -> None:
    """Pretrain on photographs; draw their groups before and after, and the losses.

    Writes groups.png, losses.png, the logs and a checkpoint into the work dir; checkpoints that are
    there are moved into a folder in it.

    Args:
        data: a source of docs/images.md, such as a folder; None: eight photographs that
            scikit-image and scikit-learn contain.
        steps: training steps of 16 images.
        seed: of weights, order and views, and of the choice of images from a large folder.
        max_long_side: longer images are not drawn, see `draw_groups.draw_groups`.
    """
    check_value("--steps", steps, whole(1))
    check_value("--seed", seed, SEED)
    check_value("--max-long-side", max_long_side, whole(LARGEST_SHORT_SIDE))
    paths = list_images(data or sample_photographs())
    if len(paths) > MOST_IMAGES:
        announce(f"{len(paths)} images found, {MOST_IMAGES} of them are used")
        paths = sorted(random.Random(seed).sample(paths, MOST_IMAGES))
    # The two photographs of a motorcycle, a stereo pair, are not shown.
    shown = paths if data else [path for path in paths if "motorcycle" not in Path(path).name]
    photographs = read_first(shown, SHOWN, max_long_side)
    work_dir = Path(work_dir)
    announce(f"{len(paths)} images, {steps} steps; results will be in {work_dir}")

    with process_state_kept(), claim(work_dir):
        runner = Runner.from_cfg(demo_config(paths, work_dir, steps, seed))
        check_enough_images(runner.train_dataloader)
        move_aside(find_replaced(work_dir), work_dir, announce)
        before = group_photographs(runner.model, photographs)
        started = time.monotonic()
        with progress_shown(runner):
            runner.train()
        minutes = (time.monotonic() - started) / 60
        after = group_photographs(runner.model, photographs)

    groups, losses = work_dir / "groups.png", work_dir / "losses.png"
    rows = {"before training": before, "after training": after}
    save_png(draw_groups(rows, runner.model.num_prototypes), groups)
    save_png(draw_losses(read_curves(Path(runner.log_dir))), losses)
    announce(f"trained {runner.iter} steps in {minutes:.1f} min; see {groups} and {losses}")


def demo_config(paths: list[str], work_dir: Path, steps: int, seed: int) -> Config:
    """The demo's config with these images and exactly this number of steps, for this machine."""
    cfg = read_config(CONFIG)
    cfg.work_dir = str(work_dir)
    cfg.randomness.seed = seed
    cfg.log_level = "WARNING"  # a progress bar is shown instead of log lines
    loader = cfg.train_dataloader
    loader.dataset.source = paths
    # One pass of the data loader lasts for all steps.
    loader.sampler.rounds = -(-steps * loader.batch_size // len(paths))
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps)
    cfg.param_scheduler = dict(type="WarmupCosineLR", warmup=max(1, steps // 4), by_epoch=False)
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=steps)
    cfg.default_hooks.logger.interval = min(cfg.default_hooks.logger.interval, steps)
    cfg.log_processor.by_epoch = False
    for hook in [*cfg.default_hooks.values(), *(cfg.get("custom_hooks") or [])]:
        if type_name(hook["type"]) == "UnreadableImagesHook":
            hook.max_unreadable = 0.5  # of a few images, one is already more than 1 %
    for line in fit_to_machine(cfg):
        announce(line)
    return cfg
