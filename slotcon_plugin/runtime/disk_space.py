"""Whether the checkpoints of a training fit on the disk, before it starts."""

import math
import shutil
from pathlib import Path

from mmengine.config import Config
from torch import nn

from ..errors import ConfigError
from .config_options import type_name
from .text_formats import describe_bytes

TWO_MOMENTS = ("Adam", "LAMB", "Lamb")  # other optimizers keep at most one number per weight


def check_space(cfg: Config, model: nn.Module, work_dir: str | Path) -> str:
    """Raise a ConfigError if the checkpoints that a training keeps do not fit into its work dir.

    Checkpoints that are there already, and that a resumed training removes, count as free space.
    Returns the numbers in words.

    Args:
        cfg: adapted to the machine.
        model: as it is trained.
        work_dir: it need not exist.
    """
    hook = (cfg.get("default_hooks") or {}).get("checkpoint")
    if not isinstance(hook, dict):
        return "no checkpoints"
    count, size = _number_kept(cfg, hook), _checkpoint_size(cfg, model)
    free = free_space(work_dir)
    if cfg.get("resume"):
        free += sum(path.stat().st_size for path in Path(work_dir).glob("*.pth"))
    if count * size > free:
        raise ConfigError(
            f"The work dir {work_dir} has {describe_bytes(free)} of free space; the training keeps "
            f"{count} checkpoints of about {describe_bytes(size)}. Make space, choose another "
            "--work-dir, or keep fewer: --cfg-options default_hooks.checkpoint.max_keep_ckpts=1."
        )
    return f"{count} checkpoints of about {describe_bytes(size)}; {describe_bytes(free)} are free"


def free_space(folder: str | Path) -> int:
    """Bytes that are free where a folder is or will be."""
    folder = Path(folder).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.is_dir())
    return shutil.disk_usage(existing).free


def _number_kept(cfg: Config, hook: dict) -> int:
    """The most checkpoints that are there at once."""
    length = cfg.train_cfg.get("max_epochs" if hook.get("by_epoch", True) else "max_iters") or 1
    interval = hook.get("interval", -1)
    written = math.ceil(length / interval) if interval > 0 else 1
    kept, best = hook.get("max_keep_ckpts", -1), hook.get("save_best")
    written = written if kept < 0 else min(written, kept + 1)  # the newest before the oldest goes
    return written + (len(best) if isinstance(best, list) else bool(best))


def _checkpoint_size(cfg: Config, model: nn.Module) -> int:
    """Bytes of a model's weights and of the optimizer's state, estimated by its name."""
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    return weights + trained * moments_of(type_name(cfg.optim_wrapper.optimizer.type))


def moments_of(optimizer: str) -> int:
    """How many numbers an optimizer of this class keeps for each weight, at most, by its name."""
    return 2 if any(word in optimizer for word in TWO_MOMENTS) else 1
