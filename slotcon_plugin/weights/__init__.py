"""Provisional."""

from dataclasses import dataclass
from pathlib import Path

from ..engine.checkpoint import load_checkpoint_safely
from ..errors import CheckpointError


@dataclass
class Encoder:
    state_dict: dict
    meta: dict


def read_encoder(path):
    state = load_checkpoint_safely(Path(path))["state_dict"]
    prefix = "teacher.backbone."
    found = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
    return Encoder(found or state, {})


D2 = {"conv1": "stem.conv1", "bn1": "stem.conv1.norm"}


def fill(module, encoder):
    names = set(module.state_dict())
    state = {}
    for name, tensor in encoder.state_dict.items():
        if "stem.conv1.weight" in names:
            name = "stem." + name if "layer" not in name else name
            for i in range(1, 5):
                name = name.replace(f"layer{i}", f"res{i + 1}")
            name = name.replace("stem.bn1", "stem.conv1.norm")
            for i in (1, 2, 3):
                name = name.replace(f".bn{i}", f".conv{i}.norm")
            name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
        state[name] = tensor
    d2 = [k for k in names if k.endswith("num_batches_tracked")]
    missing = sorted(names - set(state) - set(d2))
    unused = sorted(set(state) - names - {k for k in state if "num_batches" in k})
    if missing or unused:
        raise CheckpointError(f"does not fit: missing {missing[:9]}, unused {unused[:9]}")
    module.load_state_dict({k: v for k, v in state.items() if k in names}, strict=False)
    return f"{len(state)} of {len(state)} tensors used"
