"""A fingerprint of weights that does not depend on the file they are in."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values, in the order of the names.

    The same weights have the same digest in a `.pth`, a `.safetensors` and a `.pkl`, as long as
    the names are the same: it is taken over torchvision's.

    Returns:
        "sha256:" and 64 hexadecimal digits.
    """
    found = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"sha256:{found.hexdigest()}"
