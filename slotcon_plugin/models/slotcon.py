"""SlotCon as an MMEngine model (Wen et al., NeurIPS 2022, arXiv 2205.15288)."""

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..errors import ConfigError
from ..functional.alignment import ViewGeometry, align
from ..functional.checks import check_numbers
from ..functional.collectives import any_process
from ..functional.diagnostics import feature_std
from ..functional.grouping import Grouping, slot_mask
from ..functional.schedules import teacher_momentum
from .teacher import Teacher

LAYER = (".weight", ".bias")  # ends of the names of a layer's parameters
RECENT_STEPS = 100  # a prototype counts as used if it won a pixel within this many steps


class SlotCon(BaseModel):
    """Self-supervised pretraining by semantic grouping.

    Args:
        backbone, neck, head: configs of encoder, projector and prototype head.
        teacher_momentum: momentum of the teacher at step 0, in [0, 1].
        compile: run encoders and projectors through torch.compile.
        channels_last: store the encoders' weights, and so their maps, with channels innermost, the
            layout that tensor cores use.
        data_preprocessor: config of the device part of the data pipeline.
        init_cfg: MMEngine's initialization config.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        teacher_momentum: float = 0.99,
        compile: bool = False,
        channels_last: bool = False,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        check_numbers("[0, 1]", teacher_momentum=teacher_momentum)
        self.backbone, self.neck, self.head = map(MODELS.build, (backbone, neck, head))
        _check_all_is_trained(self.backbone, backbone["type"])
        self.teacher = Teacher(*self.student)
        self.base_momentum = teacher_momentum
        self.teacher_moves = False
        self.register_buffer("idle_steps", torch.full((self.num_prototypes,), RECENT_STEPS))
        if channels_last:
            for part in (self.backbone, self.teacher.backbone):
                part.to(memory_format=torch.channels_last)
        if compile:
            for part in (self.backbone, self.neck, self.teacher.backbone, self.teacher.neck):
                part.compile()

    @property
    def student(self) -> tuple:
        """The parts that the teacher has too: encoder, projector, prototypes."""
        return self.backbone, self.neck, self.head.prototypes

    @property
    def num_prototypes(self) -> int:
        return len(self.head.prototypes.weight)

    def init_weights(self) -> None:
        """Initialize the student, then copy it to the teacher."""
        super().init_weights()
        self.teacher.start_equal(*self.student)

    def update_teacher(self, step: int, total_steps: int) -> float:
        """Move the teacher, once per optimizer step, before its first forward pass.

        `step` of `total_steps` optimizer steps were taken so far. Returns the momentum used.
        """
        momentum = teacher_momentum(step, total_steps, self.base_momentum)
        self.teacher.follow(*self.student, momentum=momentum)
        self.expect_teacher_moves()
        return momentum

    def expect_teacher_moves(self) -> None:
        """Declare that `update_teacher` is called before each step, which training requires."""
        self.teacher_moves = True

    def forward(self, inputs, data_samples: ViewGeometry | None = None, mode: str = "tensor"):
        """Run the model on normalized images as MMEngine calls it, in one of three modes.

        'loss' takes two views, (b, 3, h, w) each, and their geometry; see `loss`. 'tensor' and
        'predict' take images (b, 3, h, w); see `encode` and `predict`.
        """
        if mode == "loss":
            return self.loss(inputs, data_samples)
        if mode == "tensor":
            return self.encode(inputs)
        if mode == "predict":
            return self.predict(inputs)
        raise ValueError(f"mode is {mode!r}, expected 'loss', 'tensor' or 'predict'.")

    def group(self, images: Tensor) -> Grouping:
        """The student's grouping of one view."""
        return self.head.prototypes(self.neck(self.backbone(images)))

    def loss(self, views: list[Tensor], geometry: ViewGeometry) -> dict[str, Tensor]:
        """The two weighted losses of a step, after the teacher was moved, and diagnostics.

        `slotcon_plugin.reference` computes the same in plain torch.
        """
        if self.training and not self.teacher_moves:
            raise RuntimeError(
                "The teacher was not moved before the first step. Train with custom_hooks=[dict("
                "type='TeacherHook')], or call update_teacher(step, total_steps) before each step."
            )
        head, teacher = self.head, self.teacher

        # 1. Grouping: each view on its own, through student and teacher.
        student_views = [self.group(view) for view in views]
        teacher_views = [teacher(view) for view in views]

        # 2. Inverse augmentation: pixel (i, j) of both views then shows the same part of the image.
        # 3. Grouping loss: both views are to be grouped alike there.
        student_scores = [view.scores for view in student_views]
        teacher_scores = [view.scores for view in teacher_views]
        size = student_scores[0].shape[2:]
        boxes = geometry.boxes.to(student_scores[0].dtype)
        alignments = [align(*view, *size) for view in zip(boxes, geometry.flips, strict=True)]
        loss_group = head.group_loss(student_scores, teacher_scores, alignments)

        # 4. The center moves, after it was used.
        if self.training:
            head.group_loss.move_center(teacher_scores)

        # 5. Slot loss: a slot is to be recognized in the other view.
        loss_slot = head.slot_loss(student_views, teacher_views, head.predictor)

        # 6. Total: MMEngine sums the entries that have "loss" in their names.
        weight = head.group_loss_weight
        return dict(
            loss_group=weight * loss_group.sum(),
            loss_slot=(1 - weight) * loss_slot.sum(),
            **self._diagnose(teacher_views),
        )

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """The teacher's last encoder map (b, c, h, w): what is transferred."""
        maps = self.teacher.backbone(images)
        return maps if isinstance(maps, Tensor) else maps[-1]

    @torch.no_grad()
    def predict(self, images: Tensor) -> list[BaseDataElement]:
        """The teacher's `scores` (k, h, w), `assignment` (h, w), `slots` (k, d) of each image."""
        view = self.teacher(images)
        every_k = torch.arange(self.num_prototypes, device=images.device).expand(len(images), -1)
        slots_bkd = view.pool(every_k)
        return [
            BaseDataElement(scores=scores_khw, assignment=scores_khw.argmax(dim=0), slots=slots_kd)
            for scores_khw, slots_kd in zip(view.scores, slots_bkd, strict=True)
        ]

    @torch.no_grad()
    def _diagnose(self, teacher_views: list[Grouping]) -> dict[str, Tensor]:
        """What is logged beside the losses, from the teacher's views."""
        active_bk = torch.cat([slot_mask(v.active, self.num_prototypes) for v in teacher_views])
        used_k = any_process(active_bk.any(dim=0))
        if self.training:
            self.idle_steps.copy_(torch.where(used_k, 0, self.idle_steps + 1))
        return dict(
            prototypes_used=used_k.float().mean(),
            prototypes_used_running=(self.idle_steps < RECENT_STEPS).float().mean(),
            active_slots=active_bk.sum(dim=1, dtype=torch.float32).mean(),
            feature_std=feature_std(*(view.directions for view in teacher_views)),
            **self.head.group_loss.diagnose([view.scores for view in teacher_views]),
        )


def _check_all_is_trained(backbone: nn.Module, name: str) -> None:
    """Other libraries' encoders can freeze layers and norms, and have stages without output."""
    backbone.train()
    # Fixed position embeddings are meant to be so; they are parameters of other names.
    frozen = [
        *(n for n, p in backbone.named_parameters() if n.endswith(LAYER) and not p.requires_grad),
        *(n for n, m in backbone.named_modules() if hasattr(m, "running_mean") and not m.training),
    ]
    if frozen:
        options = ("norm_eval", "frozen_stages")
        found = [f"{key}={getattr(backbone, key)}" for key in options if hasattr(backbone, key)]
        raise ConfigError(
            f"The backbone {name} has {' and '.join([*found, f'{len(frozen)} frozen layers'])} "
            f"(first: {frozen[0]}), but pretraining trains all of it: set norm_eval=False, "
            "frozen_stages=-1, or what else freezes it."
        )
    num_stages, outputs = getattr(backbone, "num_stages", 0), getattr(backbone, "out_indices", ())
    if outputs and all(0 <= index < num_stages - 1 for index in outputs):
        raise ConfigError(
            f"The backbone {name} has num_stages={num_stages} and out_indices={tuple(outputs)}: "
            f"stages after the last output are not trained; set num_stages={max(outputs) + 1}."
        )
