"""From a checkpoint, a work dir or a config to a network that can be used from Python."""

from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS

from ..checkpoints.containers import FOLDER_WEIGHTS
from ..checkpoints.left_out import LeftOut, check_initial_weights
from ..checkpoints.metadata import describe_pixels
from ..errors import CheckpointError, ConfigError
from ..evaluation.batches import choose_device
from ..evaluation.networks import DecodedMap, DenseFeatures, PixelGroups, open_whole
from ..models.levels import ENCODER
from ..models.slotcon import SlotCon
from ..runtime.config_options import read_config
from ..runtime.explain_errors import explained_errors
from ..runtime.launch import announce
from ..runtime.process_state import only_warnings
from ..runtime.resume_state import find_last_good_checkpoint
from ..runtime.safe_loading import safe_loader
from ..transfer.fit_transfer import is_slotcon
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
            last good checkpoint is read; an exported encoder (a file or folder), torchvision's
            weights, "random:resnet50" or "supervised:resnet50", for features alone; or a config,
            its path or name, whose network gets random weights, which is printed.
        part: "teacher" or "student" of a full checkpoint; None: the teacher.
        device: where the network runs; None: a GPU if there is one.
        level: of a pretraining with a decoder, "encoder" or the number of a decoder's level; None:
            0, the finest.

    Raises:
        CheckpointError: the file cannot be read safely, or is not complete.
        ConfigError: there is no such file or config, or a config is not of a pretraining.
    """
    if isinstance(source, SlotConModel):
        return source
    if part not in (None, "teacher", "student"):
        raise ConfigError(f"part is {part!r}, expected 'teacher', 'student' or None.")
    device = choose_device(device)
    weights = find_weights(source)
    network = open_whole(weights, part, level) if weights else _untrained(source, level)
    return SlotConModel(network, device)


def find_weights(source: str | Path) -> str | None:
    """The file, or the name of public weights, that a source of `load` means; None: a config."""
    text, path = str(source), Path(source).expanduser()
    if text.startswith(("random:", "supervised:")):
        return text
    if path.is_dir() and not (path / FOLDER_WEIGHTS).is_file():
        found = find_last_good_checkpoint(path, announce)
        if found is None:
            raise CheckpointError(f"The folder {path} has no checkpoint of a training in it.")
        return str(found[0])
    is_config = path.suffix in CONFIG_SUFFIXES or "slotcon_plugin::" in text
    return None if is_config or not (path.exists() or path.suffix) else text


def _untrained(source: str | Path, level: str | int | None) -> PixelGroups | DenseFeatures:
    try:
        cfg = read_config(source)
    except ConfigError as error:
        if Path(source).suffix or Path(source).exists():
            raise
        raise ConfigError(f"There is no checkpoint and no work dir {source}. {error}") from error
    if not cfg.get("model") or not is_slotcon(cfg):
        raise ConfigError(f"{source} is not the config of a pretraining with SlotCon.")
    seed = (cfg.get("randomness") or {}).get("seed") or 0
    model = build_untrained(cfg, seed)
    teacher, level = model.teacher, model.levels[model.position(level)].name
    origin = f"untrained network of {source}, seed {seed}"
    announce(f"{source} is a config: the network has random weights, from seed {seed}")
    net, neck, prototypes = teacher.backbone, teacher.neck, teacher.prototypes
    if level != ENCODER:
        net = DecodedMap(net, teacher.decoder, level)
        neck, prototypes = teacher.decoder_necks[level], teacher.decoder_prototypes[level]
    features = DenseFeatures(net, describe_pixels(cfg.to_dict()), origin)
    prototypes_kd = F.normalize(prototypes.weight.detach(), dim=1)
    return PixelGroups(features, neck, prototypes_kd, prototypes.temperature)


def build_untrained(cfg: Config, seed: int) -> SlotCon:
    """The model of a pretraining's config as its training starts, without weights of `load_from`.

    Torch's random numbers are those of `seed`, and the same as before afterwards.
    """
    with torch.random.fork_rng(devices=()), only_warnings(), explained_errors(cfg), safe_loader():
        torch.manual_seed(seed)
        model = MODELS.build(cfg.model)
        check_initial_weights(model, LeftOut(cfg.get("allow_missing")))
        model.init_weights()
    return model
