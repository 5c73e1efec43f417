"""LARS as SlotCon uses it. The LARS of mmpretrain, timm and lightly compute other updates."""

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..functional.checks import check_numbers


class SlotConLARS(Optimizer):
    """Layer-wise adaptive rate scaling (You et al., arXiv 1708.03888), as in SlotCon's recipe.

    For a tensor with two or more axes: `d = g + wd · p`, then `d ← d · trust · |p| / |d|` (factor 1
    where a norm is 0). One-dimensional tensors (biases, norm layers): `d = g`. Then `μ ← momentum ·
    μ + d` and `p ← p − lr · μ`: the momentum buffer does not contain the learning rate. Prototypes
    are treated like any matrix.
    `momentum` is in [0, 1], the other numbers are at least 0. A group may have its own values.
    """

    def __init__(
        self,
        params,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 1e-5,
        trust_coefficient: float = 0.001,
    ) -> None:
        defaults = dict(lr=lr, momentum=momentum, weight_decay=weight_decay)
        defaults["trust_coefficient"] = trust_coefficient
        super().__init__(params, defaults)
        for group in self.param_groups:
            check_numbers("[0, 1]", momentum=group["momentum"])
            for name in ("lr", "weight_decay", "trust_coefficient"):
                check_numbers("[0, inf)", **{name: group[name]})

    @torch.no_grad()
    def step(self, closure=None):
        """Take one step; parameters without a gradient do not change."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            trained = [p for p in group["params"] if p.grad is not None]
            if matrices := [p for p in trained if p.ndim > 1]:
                self._descend(matrices, _adapted(matrices, group), group)
            if vectors := [p for p in trained if p.ndim <= 1]:
                self._descend(vectors, [p.grad for p in vectors], group)
        return loss

    def _descend(self, params: list[Tensor], directions: list[Tensor], group: dict) -> None:
        for p in params:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        buffers = [self.state[p]["momentum_buffer"] for p in params]
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, directions)
        torch._foreach_add_(params, buffers, alpha=-group["lr"])


def _adapted(params: list[Tensor], group: dict) -> list[Tensor]:
    """Decayed gradients, each scaled to `trust · |p|`; the gradients themselves do not change."""
    decayed = torch._foreach_add([p.grad for p in params], params, alpha=group["weight_decay"])
    param_norms = torch.stack(torch._foreach_norm(params))
    norms = torch.stack(torch._foreach_norm(decayed))
    factors = group["trust_coefficient"] * param_norms / norms
    factors = torch.where((param_norms > 0) & (norms > 0), factors, 1.0)
    torch._foreach_mul_(decayed, list(factors.unbind()))
    return decayed
