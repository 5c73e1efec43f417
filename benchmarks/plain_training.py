"""A training loop written plainly: the baseline of the whole.

Networks are those of a built SlotCon, torch's and the config's; everything else is plain: data from
PIL, `plain.losses`, updates tensor by tensor. On a GPU in float16, as published.
"""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.plain_data import PlainImages
from slotcon_plugin import reference as plain
from slotcon_plugin.datasets.transforms import TwoViews

LOSS_SCALE = 1024.0  # of float16; a fixed one


class PlainTrainer:
    """Student, teacher, center and momenta.

    Args:
        model: a built SlotCon; its parameters are trained.
        device: "cpu" (float32) or "cuda" (float16 with a scaled loss).
    """

    def __init__(self, model: nn.Module, device: str, lr: float = 0.1) -> None:
        self.model, self.device, self.lr = model.to(device).train(), device, lr
        student = [*model.backbone.parameters(), *model.neck.parameters()]
        self.followed = [*student, model.head.prototypes.weight]
        self.params = [p for p in model.parameters() if p.requires_grad]
        self.buffers = [torch.zeros_like(p) for p in self.params]

    def step(self, views: Tensor, boxes: Tensor, flips: Tensor) -> Tensor:
        """One step on views (b, 2, 3, s, s), boxes (b, 2, 4) and flips (b, 2); the loss."""
        model, head, teacher = self.model, self.model.head, self.model.teacher
        plain.move_teacher(list(teacher.parameters()), self.followed, 0.99)
        views = [view.contiguous() for view in views.to(self.device, non_blocking=True).unbind(1)]
        places = boxes.to(self.device).transpose(0, 1), flips.to(self.device).transpose(0, 1)
        with torch.autocast(self.device, dtype=torch.float16, enabled=self.device == "cuda"):
            projected = plain.project(
                lambda image: model.neck(model.backbone(image)),
                lambda image: teacher.neck(teacher.backbone(image)),
                views,
                *places,
            )
            result, center = plain.losses(
                projected,
                head.prototypes.weight,
                teacher.prototypes.weight,
                head.predictor,
                head.group_loss.center,
                plain.Settings(),
            )
        head.group_loss.center.copy_(center)
        for p in self.params:
            p.grad = None
        scale = LOSS_SCALE if self.device == "cuda" else 1.0
        (result.total * scale).backward()
        for p in self.params:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            elif scale != 1.0:
                p.grad.div_(scale)
        plain.lars_step(self.params, self.buffers, self.lr)
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
    """Train some steps and tell the clock (a `speed_loop.BlockClock`) of batches and steps.

    Raises:
        FloatingPointError: the last loss is no number, so that what was timed was no training.
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
