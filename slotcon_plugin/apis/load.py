"""From a checkpoint, a work dir or a config to a network that can be used from Python."""

from pathlib import Path

import torch

from ..checkpoints.named_networks import MARK, last_of_work_dir
from ..errors import ConfigError
from ..evaluation.batches import choose_device
from ..evaluation.networks import RANDOM, DenseFeatures, PixelGroups, open_whole, whole_in
from ..evaluation.untrained import untrained_content
from ..models.levels import ENCODER
from ..runtime.config_options import read_config
from ..runtime.launch import announce
from ..transfer.fit_transfer import is_transfer
from .trained_model import SlotConModel

CONFIG_SUFFIXES = (".py", ".yaml", ".yml", ".json")


def load(
    source: str | Path | SlotConModel,
    part: str | None = None,
    device: str | None = None,
    level: str | int | None = None,
) -> SlotConModel:
    """Read the network of a checkpoint, or build an untrained one from a config.

    No code in a checkpoint is run. Either all of its weights are used or there is an error.

    Args:
        source: a checkpoint of a pretraining, ours or a published one; a work dir, of which the
            last good checkpoint is read; "zoo:NAME", a trained network of the package, which
            `slotcon list` prints; an exported encoder (a file or folder), torchvision's weights,
            "random:resnet50" or "supervised:resnet50", for features alone; or a config, its path or
            name, whose network gets random weights, which is printed.
        part: "teacher" or "student" of a full checkpoint; None: the teacher.
        device: where the network runs; None: a GPU if there is one.
        level: of a pretraining with a decoder, "encoder" or the number of a decoder's level, whose
            groups and features are used; None: groups of level 0, the finest, and features of the
            encoder.

    Raises:
        CheckpointError: the file cannot be read safely, or is not complete.
        ConfigError: there is no such file or config, or a config is not of a pretraining.
    """
    if isinstance(source, SlotConModel):
        return source
    if not isinstance(source, str | Path):
        raise ConfigError(f"{source!r} is given as a network, expected a path or a name.")
    if part not in (None, "teacher", "student"):
        raise ConfigError(f"part is {part!r}, expected 'teacher', 'student' or None.")
    device = choose_device(device)
    weights = find_weights(source)
    with torch.random.fork_rng(devices=()):  # the user's random numbers stay as they are
        network = open_whole(weights, part, level) if weights else load_untrained(source, level)
    return SlotConModel(network, device, decoded=level not in (None, ENCODER))


def find_weights(source: str | Path) -> str | None:
    """The file, or the name of public weights, that a source of `load` means; None: a config."""
    text, path = str(source), Path(source).expanduser()
    if text.startswith(("random:", "supervised:", MARK)):
        return text
    if path.is_dir():
        return last_of_work_dir(source, announce)
    is_config = path.suffix in CONFIG_SUFFIXES or "slotcon_plugin::" in text
    return None if is_config or not (path.exists() or path.suffix) else text


def load_untrained(
    source: str | Path, level: str | int | None, prototypes: int | None = None
) -> PixelGroups | DenseFeatures:
    """The network of a pretraining's config; `prototypes` as for `untrained_content`."""
    try:
        cfg = read_config(source)
    except ConfigError as error:
        if Path(source).suffix or Path(source).exists():
            raise
        raise ConfigError(f"There is no checkpoint and no work dir {source}. {error}") from error
    if not cfg.get("model") or is_transfer(cfg):
        raise ConfigError(f"{source} is not the config of a pretraining.")
    seed = (cfg.get("randomness") or {}).get("seed") or 0
    if prototypes is None:
        announce(f"{source} is a config: the network has random weights, from seed {seed}")
    content = untrained_content(str(source), seed, prototypes)
    return whole_in(content, f"{RANDOM}{source}", level=level, seed=seed)
