"""The prototype head: what SlotCon adds to an encoder, or a decoder, and a projector."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor

from ..functional.alignment import ViewGeometry, align
from ..functional.checks import check_numbers
from ..functional.grouping import Grouping


class PrototypeHead(BaseModule):
    """The student's prototypes and slot predictor, and the two losses, of one level of maps.

    Args:
        prototypes, group_loss, slot_loss, predictor: configs of the parts. `group_loss` gets
            `num_prototypes` from `prototypes`. Other classes must have the methods of `Prototypes`,
            `GroupingLoss` and `SlotLoss`, with the same arguments and results.
        group_loss_weight: λ_g in [0, 1]; the slot loss has the weight 1 - λ_g.
        init_cfg: MMEngine's initialization config.
    """

    def __init__(
        self,
        prototypes: dict,
        group_loss: dict,
        slot_loss: dict,
        predictor: dict,
        group_loss_weight: float = 0.5,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_numbers("[0, 1]", group_loss_weight=group_loss_weight)
        self.prototypes = MODELS.build(prototypes)
        self.num_prototypes = len(self.prototypes.weight)
        given = dict(num_prototypes=self.num_prototypes)
        self.group_loss = MODELS.build(group_loss, default_args=given)
        self.slot_loss = MODELS.build(slot_loss)
        self.predictor = MODELS.build(predictor)
        self.group_loss_weight = group_loss_weight

    def loss(
        self, student: Sequence[Grouping], teacher: Sequence[Grouping], geometry: ViewGeometry
    ) -> dict[str, Tensor]:
        """Steps 2 to 6 of docs/method.md: the two weighted losses of the two views' groupings."""
        # 2. Inverse augmentation: pixel (i, j) of both views then shows the same part of the image.
        # 3. Grouping loss: both views are to be grouped alike there.
        student_scores = [view.scores for view in student]
        teacher_scores = [view.scores for view in teacher]
        size = student_scores[0].shape[2:]
        boxes = geometry.boxes.to(student_scores[0].dtype)
        alignments = [align(*view, *size) for view in zip(boxes, geometry.flips, strict=True)]
        loss_group = self.group_loss(student_scores, teacher_scores, alignments)

        # 4. The center moves, after it was used.
        if self.training:
            self.group_loss.move_center(teacher_scores)

        # 5. Slot loss: a slot is to be recognized in the other view.
        loss_slot = self.slot_loss(student, teacher, self.predictor)

        # 6. Total: MMEngine sums the entries that have "loss" in their names.
        weight = self.group_loss_weight
        return dict(loss_group=weight * loss_group.sum(), loss_slot=(1 - weight) * loss_slot.sum())
