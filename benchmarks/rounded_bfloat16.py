"""Run tools/train.py with the bfloat16 products of a tensor core, on a CPU without bfloat16.

    python benchmarks/rounded_bfloat16.py configs/pretrain/slotcon_r18_demo.py --amp bf16 ...

A tensor core multiplies bfloat16 numbers exactly, adds in float32 and rounds the sum. Here tensors
are converted to float32, multiplied, and the result is rounded: a hundred times faster than torch's
bfloat16 products on such a CPU.
"""

import runpy
import sys
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

aten = torch.ops.aten
PRODUCTS = (
    *(aten.convolution.default, aten.convolution_backward.default),
    *(aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default),
)


class RoundedProducts(TorchDispatchMode):
    """Context manager: products of bfloat16 tensors are computed in float32 and rounded."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        half = torch.bfloat16
        halved = any(isinstance(a, torch.Tensor) and a.dtype == half for a in args)
        if function not in PRODUCTS or not halved:
            return function(*args, **(kwargs or {}))
        wide = tree_map_only(torch.Tensor, torch.Tensor.float, (args, kwargs or {}))
        result = function(*wide[0], **wide[1])
        return tree_map_only(torch.Tensor, lambda t: t.to(half), result)


def main(argv: list[str]) -> None:
    """Run tools/train.py with these arguments."""
    train = Path(__file__).resolve().parents[1] / "tools" / "train.py"
    sys.argv = [str(train), *argv]
    sys.path.insert(0, str(train.parent))
    with RoundedProducts():
        runpy.run_path(str(train), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
