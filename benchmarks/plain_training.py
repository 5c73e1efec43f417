"""A training loop in plain torch, the baseline of our loop.

The networks are those of a built SlotCon. Data come from PIL, the losses and the updates, tensor by
tensor, from `slotcon_plugin.reference`. On a GPU it computes in float16, as published.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.plain_data import PlainImages
from benchmarks.plain_model import plain_losses
from slotcon_plugin import reference as plain
from slotcon_plugin.datasets.transforms import TwoViews

LOSS_SCALE = 1024.0  # constant, for float16


class PlainTrainer:
    """Student, teacher, center and momentum buffers.

    Args:
        model: a built SlotCon; its parameters are trained.
        device: "cpu" (float32) or "cuda" (float16 with a scaled loss).
        update: changes the parameters by their gradients; None: LARS.
    """

    def __init__(
        self, model: nn.Module, device: str, update: Callable[[], object] | None = None
    ) -> None:
        self.model, self.device = model.to(device).train(), device
        student = [*model.backbone.parameters(), *model.neck.parameters()]
        self.followed = [*student, model.head.prototypes.weight]
        self.params = [p for p in model.parameters() if p.requires_grad]
        buffers = [] if update else [torch.zeros_like(p) for p in self.params]
        self.update = update or partial(plain.lars_step, self.params, buffers, 0.1)

    def step(self, views: Tensor, boxes: Tensor, flips: Tensor) -> Tensor:
        """Train on views (b, 2, 3, s, s), boxes (b, 2, 4) and flips (b, 2). Returns the loss."""
        model = self.model
        teacher = list(model.teacher.parameters())
        plain.move_teacher(teacher, self.followed, model.base_momentum)
        views = [view.contiguous() for view in views.to(self.device, non_blocking=True).unbind(1)]
        geometry = boxes.to(self.device).transpose(0, 1), flips.to(self.device).transpose(0, 1)
        with torch.autocast(self.device, dtype=torch.float16, enabled=self.device == "cuda"):
            (result,), center = plain_losses(model, [(views, geometry)])
        model.head.group_loss.center.copy_(center)
        for p in self.params:
            p.grad = None
        scale = LOSS_SCALE if self.device == "cuda" else 1.0
        (result.total * scale).backward()
        for p in self.params:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            elif scale != 1.0:
                p.grad.div_(scale)
        self.update()
        return result.total


def train(
    trainer: PlainTrainer,
    clock,
    paths: list[str],
    draws: TwoViews,
    batch: int,
    steps: int,
    workers: int,
    prefetch: int,
) -> None:
    """Train some steps; `clock`, a `speed_loop.BlockClock`, is called for each batch and step.

    Raises:
        FloatingPointError: the last loss is not finite: what was timed was no training.
    """
    loader = DataLoader(
        PlainImages(paths, batch * steps, draws),
        batch_size=batch,
        num_workers=workers,
        drop_last=True,
        pin_memory=trainer.device == "cuda",
        prefetch_factor=prefetch if workers else None,
    )
    for data in loader:
        clock.data_arrived()
        loss = trainer.step(data["views"], data["boxes"], data["flips"])
        clock.step_done()
    if not loss.isfinite():
        raise FloatingPointError(f"the plain loop's last loss is {float(loss)}")
