"""The prototype head: what SlotCon adds to an encoder and a projector."""

from mmengine.model import BaseModule
from mmengine.registry import MODELS

from ..functional.checks import check_numbers


class PrototypeHead(BaseModule):
    """The student's prototypes and slot predictor, and the two losses.

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
        num_prototypes = len(self.prototypes.weight)
        self.group_loss = MODELS.build(group_loss, default_args=dict(num_prototypes=num_prototypes))
        self.slot_loss = MODELS.build(slot_loss)
        self.predictor = MODELS.build(predictor)
        self.group_loss_weight = group_loss_weight
