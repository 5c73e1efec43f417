"""The step without backbone, projector and slot predictor, as pairs of (ours, plain).

`benchmarks/speed.py` times the pairs, `tests/test_speed.py` checks that both return the same.
"""

import copy

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from benchmarks.measuring import Pair
from benchmarks.plain_model import plain_losses, random_geometry
from slotcon_plugin import reference as plain
from slotcon_plugin.functional.alignment import ViewGeometry, align
from slotcon_plugin.functional.grouping import (
    Grouping,
    active_slots,
    prototype_scores,
    unit_directions,
)
from slotcon_plugin.models.grouping_loss import GroupingLoss
from slotcon_plugin.models.slot_loss import SlotLoss
from slotcon_plugin.models.teacher import follow
from slotcon_plugin.optim.lars import SlotConLARS


class PixelsThemselves(nn.Module):
    """Instead of an encoder: its images already are projected pixels (b, d, h, w)."""

    def forward(self, pixels):
        return (pixels.view_as(pixels),)  # a new tensor, as the teacher's has no gradient


class SlotsThemselves(nn.Module):
    """Instead of a slot predictor."""

    def forward(self, slots):
        return slots


for _class in (PixelsThemselves, SlotsThemselves):
    MODELS.register_module(module=_class, force=True)


class Step:
    """Inputs of one process's step, and its parts as pairs (ours, plain).

    Args:
        num_prototypes, batch, channels, size: k, b, d, and h = w.
        device, dtype: where and in what.

    Pixels and prototypes are normal noise. Nearly every pixel then has another best prototype,
    which is the most work for the slot loss.
    """

    def __init__(
        self,
        num_prototypes: int,
        batch: int,
        channels: int = 256,
        size: int = 7,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        torch.manual_seed(seed)
        head = dict(
            type="PrototypeHead",
            prototypes=dict(type="Prototypes", num_prototypes=num_prototypes, channels=channels),
            group_loss=dict(type="GroupingLoss"),
            slot_loss=dict(type="SlotLoss"),
            predictor=dict(type="SlotsThemselves"),
        )
        empty = dict(backbone=dict(type="PixelsThemselves"), neck=dict(type="LastMap"))
        model = MODELS.build(dict(type="SlotCon", head=head, **empty)).to(device, dtype)
        model.expect_teacher_moves()
        with torch.no_grad():
            teacher = model.teacher.prototypes.weight
            teacher.add_(0.1 * torch.randn_like(teacher))
        self.model, self.plain_model = model, copy.deepcopy(model)
        pixels = torch.randn(2, batch, channels, size, size, dtype=dtype).to(device)
        self.views = list(pixels)
        boxes, flips = random_geometry(batch, seed)
        self.geometry = ViewGeometry(boxes.to(device, dtype), flips.to(device))

    def pairs(self) -> dict[str, Pair]:
        """Forward and backward pass of each part, and of all together."""
        return {
            "scores": self._scores(),
            "alignment and grouping loss": self._grouping_loss(),
            "slot loss": self._slot_loss(),
            "all of these": self.losses(diagnostics=False),
            "all of these, and the logged values": self.losses(),
        }

    def losses(self, diagnostics: bool = True) -> Pair:
        """Both losses from projected pixels, the backward pass, and the center.

        Args:
            diagnostics: compute the logged values too; the plain side has none.
        """
        views = [view.clone().requires_grad_() for view in self.views]
        model, plain_model = self.model, self.plain_model
        if not diagnostics:
            model, plain_model = copy.deepcopy((model, plain_model))  # the centers change
            model._diagnose = lambda *arguments: {}

        def ours():
            result = model.loss(views, self.geometry)
            total = result["loss_group"] + result["loss_slot"]
            return total, *backward(total, [*views, model.head.prototypes.weight])

        def plainly():
            (result,), center = plain_losses(plain_model, [(views, self.geometry)])
            plain_model.head.group_loss.center.copy_(center)
            leaves = [*views, plain_model.head.prototypes.weight]
            return result.total, *backward(result.total, leaves)

        return ours, plainly

    def _scores(self) -> Pair:
        student, teacher = self._weights()
        views = [view.clone().requires_grad_() for view in self.views]
        batch, _, height, width = views[0].shape
        upstream = torch.randn(batch, len(student), height, width).to(views[0])

        def through(score, upstream):
            scores = [score(view, student) for view in views]
            with torch.no_grad():
                known = [score(view, teacher) for view in views]
            return *scores, *known, *torch.autograd.grad(scores, [*views, student], [upstream] * 2)

        def ours(view, prototypes):
            return prototype_scores(unit_directions(view), prototypes)

        return (
            lambda: through(ours, innermost(upstream)),
            lambda: through(plain.score_maps, upstream),
        )

    def _grouping_loss(self) -> Pair:
        student, teacher = self._score_maps()
        our_student = [innermost(scores).requires_grad_() for scores in student]
        our_teacher = [innermost(scores) for scores in teacher]
        loss = GroupingLoss(student[0].shape[1]).to(student[0])

        def ours():
            size, places = our_student[0].shape[2:], zip(*self.geometry, strict=True)
            alignments = [align(*place, *size) for place in places]
            per_direction = loss(our_student, our_teacher, alignments)
            return per_direction, *backward(per_direction.sum(), our_student)

        def plainly():
            projected = plain.Projected(self.views, self.views, *self.geometry)
            per_direction = plain.grouping_losses(
                projected, student, teacher, loss.center, plain.Settings()
            )
            return per_direction, *backward(per_direction.sum(), student)

        return ours, plainly

    def _slot_loss(self) -> Pair:
        student, teacher = self._score_maps()
        our_student = [innermost(scores).requires_grad_() for scores in student]
        our_teacher = [innermost(scores) for scores in teacher]
        views = [view.clone().requires_grad_() for view in self.views]
        predictor, loss = SlotsThemselves(), SlotLoss()
        projected = plain.Projected(views, self.views, *self.geometry)

        def ours():
            groupings = [
                [Grouping(f, f, s, 0.07, active_slots(s)) for f, s in zip(features, scores)]
                for features, scores in ((views, our_student), (self.views, our_teacher))
            ]
            per_direction = loss(*groupings, predictor)
            return per_direction, *backward(per_direction.sum(), [*views, *our_student])

        def plainly():
            per_direction, _ = plain.slot_losses(
                [projected], student, [teacher], predictor, plain.Settings()
            )
            return per_direction, *backward(per_direction.sum(), [*views, *student])

        return ours, plainly

    def _weights(self) -> tuple[Tensor, Tensor]:
        student = self.model.head.prototypes.weight.detach().clone().requires_grad_()
        return student, self.model.teacher.prototypes.weight

    def _score_maps(self) -> tuple[list[Tensor], list[Tensor]]:
        """Scores of both views, not aligned, of the student (requiring gradients) and teacher."""
        with torch.no_grad():
            student, teacher = (
                [plain.score_maps(view, weights) for view in self.views]
                for weights in self._weights()
            )
        return [scores.requires_grad_() for scores in student], teacher


def innermost(scores: Tensor) -> Tensor:
    """A copy of scores (b, k, h, w) in our memory layout, where prototypes are innermost."""
    return scores.detach().clone(memory_format=torch.channels_last)


def backward(value: Tensor, leaves: list[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of `value` with respect to the leaves."""
    return torch.autograd.grad(value, leaves)


class Updates:
    """Updates of teacher and student on a list of parameters; each side has its own copies.

    Args:
        student: the trained parameters.
        teacher_size: the number of those that the teacher has too, which are first.
    """

    def __init__(self, student: list[Tensor], teacher_size: int) -> None:
        self.sides = []
        for _ in range(2):
            params = [nn.Parameter(p.detach().clone()) for p in student]
            for p in params:
                p.grad = 0.01 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)).to(
                    p
                )
            teacher = [0.9 * p.detach() for p in params[:teacher_size]]
            self.sides.append((params, teacher))
        self.optimizer = SlotConLARS(self.sides[0][0], lr=0.1)
        self.buffers = [torch.zeros_like(p) for p in student]

    def pairs(self) -> dict[str, Pair]:
        """The teacher's update and the optimizer's step."""
        return {
            "teacher": (self._move_ours, self._move_plainly),
            "LARS": (self._step_ours, self._step_plainly),
        }

    def _move_ours(self):
        params, teacher = self.sides[0]
        follow(teacher, params[: len(teacher)], 0.99)
        return teacher

    def _move_plainly(self):
        params, teacher = self.sides[1]
        plain.move_teacher(teacher, params[: len(teacher)], 0.99)
        return teacher

    def _step_ours(self):
        self.optimizer.step()
        return self.sides[0][0]

    def _step_plainly(self):
        plain.lars_step(self.sides[1][0], self.buffers, 0.1)
        return self.sides[1][0]
