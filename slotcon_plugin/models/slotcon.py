"""SlotCon (Wen et al., NeurIPS 2022, arXiv 2205.15288) and DeCon as an MMEngine model."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..errors import ConfigError
from ..functional.alignment import ViewGeometry
from ..functional.checks import check_flags, check_numbers
from ..functional.collectives import any_process
from ..functional.diagnostics import feature_std
from ..functional.grouping import Grouping, slot_mask
from ..functional.schedules import teacher_momentum
from .decoders import LateralDropout, build_decoder
from .levels import Level, choose_level
from .measure import Measured, with_channels
from .teacher import Parts, Teacher

LAYER = (".weight", ".bias")  # ends of the names of a layer's parameters
RECENT_STEPS = 100  # a prototype counts as used if it won a pixel within this many steps


class SlotCon(BaseModel):
    """Self-supervised pretraining by semantic grouping.

    With a decoder it is DeCon (Quetin et al., WACV 2026, arXiv 2503.17526): the same step on the
    encoder's last map and on the decoder's maps, `α · L_encoder + (1 − α) · mean L_decoder`.

    Args:
        backbone, neck, head: configs of encoder, projector and prototype head. Without a loss of
            the encoder (`encoder_loss_weight=0`) neck and head are not built and may be None. Necks
            and decoder that leave out `in_channels` get those of the maps they take.
        decoder: config of a module from the encoder's maps to one or more maps, the finest first,
            e.g. mmdet.FPN.
        decoder_neck: config of the projector of each level of the decoder, one for all or a list.
        decoder_head: config of the prototype head of the decoder's first map; or a list, with one
            for each of its first maps.
        encoder_loss_weight: α in [0, 1), the share of the encoder's loss if there is a decoder.
        lateral_channel_dropout, lateral_map_dropout: see `LateralDropout`.
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
        neck: dict | None = None,
        head: dict | None = None,
        teacher_momentum: float = 0.99,
        compile: bool = False,
        channels_last: bool = False,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        decoder: dict | None = None,
        decoder_neck: dict | Sequence[dict] | None = None,
        decoder_head: dict | Sequence[dict] | None = None,
        encoder_loss_weight: float = 0.5,
        lateral_channel_dropout: float = 0.0,
        lateral_map_dropout: float = 0.0,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        check_numbers("[0, 1]", teacher_momentum=teacher_momentum)
        check_flags(compile=compile, channels_last=channels_last)
        dropout = LateralDropout(lateral_channel_dropout, lateral_map_dropout)
        heads = decoder_head if isinstance(decoder_head, Sequence) else [decoder_head]
        necks = decoder_neck if isinstance(decoder_neck, Sequence) else [decoder_neck] * len(heads)
        if decoder is not None:  # an encoder alone, α = 1, is SlotCon
            check_numbers("[0, 1)", encoder_loss_weight=encoder_loss_weight)
        else:
            encoder_loss_weight = 1.0
            if dropout.active or any([*heads, *necks]):
                raise ConfigError(
                    "decoder is None, but decoder_neck, decoder_head or a lateral dropout is set: "
                    "give the decoder, e.g. decoder=dict(type='mmdet.FPN', ...), or none of them."
                )
            heads = necks = ()
        if len(necks) != len(heads):
            raise ConfigError(
                f"decoder_neck has {len(necks)} entries and decoder_head {len(heads)}, expected "
                "one of each for each level, or one decoder_neck for all."
            )
        self.encoder_loss_weight = encoder_loss_weight
        self.backbone = MODELS.build(backbone)
        encoder = Measured(self.backbone, backbone["type"])
        neck = with_channels(neck, lambda: encoder.channels[-1]) if encoder_loss_weight else None
        self.neck, self.head = (
            MODELS.build(part) if encoder_loss_weight else None for part in (neck, head)
        )
        decoder = with_channels(decoder, lambda: encoder.channels)
        self.decoder = None if decoder is None else build_decoder(decoder, len(heads), dropout)
        decoded = Measured(self.decoder, decoder and decoder["type"], lambda: encoder.maps)
        necks = [
            with_channels(one, lambda i=i: decoded.channels[min(i, len(decoded.channels) - 1)])
            for i, one in enumerate(necks)
        ]
        self.decoder_necks, self.decoder_heads = (
            nn.ModuleList(map(MODELS.build, parts)) for parts in (necks, heads)
        )
        _check_all_is_trained(self.backbone, backbone["type"])
        self.teacher = Teacher(*self.parts)
        self.base_momentum = teacher_momentum
        self.teacher_moves = False
        every_k = sum(self.prototypes_of_levels.values())
        self.register_buffer("idle_steps", torch.full((every_k,), RECENT_STEPS))
        for parts in (self.parts, self.teacher.parts):
            encoders = [part for part in (parts.backbone, parts.decoder) if part is not None]
            if channels_last:
                for part in encoders:
                    part.to(memory_format=torch.channels_last)
            if compile:
                for part in (*encoders, *parts.necks):
                    part.compile()

    @property
    def parts(self) -> Parts:
        """The student's `Parts`, of which the teacher has copies."""
        prototypes = nn.ModuleList(head.prototypes for head in self.decoder_heads)
        first = self.head.prototypes if self.head else None
        return Parts(self.backbone, self.neck, first, self.decoder, self.decoder_necks, prototypes)

    @property
    def student(self) -> tuple[nn.Module, ...]:
        """The parts that the teacher has too, in its order."""
        return tuple(part for part in self.parts if part is not None)

    @property
    def levels(self) -> list[Level]:
        """The encoder's level, if it has a loss, and those of the decoder."""
        alpha, count = self.encoder_loss_weight, len(self.decoder_heads)
        encoder = [Level("", alpha, self.head)] if self.head else []
        shares = [(f"_dec{i}", (1 - alpha) / count) for i in range(count)]
        return encoder + [Level(*one, head) for one, head in zip(shares, self.decoder_heads)]

    def position(self, level: str | int | None = None) -> int:
        """Where a level is in `levels`: "encoder", a number of the decoder's, None for the finest.

        Raises ConfigError if there is no such level.
        """
        names = [one.name for one in self.levels]
        return names.index(choose_level(names, level, "the model"))

    @property
    def prototypes_of_levels(self) -> dict[str, int]:
        """K of each level, by the suffix of its logged values."""
        return {level.suffix: level.head.num_prototypes for level in self.levels}

    @property
    def num_prototypes(self) -> int:
        """K of the finest level."""
        return self.levels[self.position()].head.num_prototypes

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

    def group(self, images: Tensor) -> list[Grouping]:
        """The student's grouping of one view, on each level."""
        return list(self.parts.group(images))

    def loss(self, views: list[Tensor], geometry: ViewGeometry) -> dict[str, Tensor]:
        """The two weighted losses of each level, after the teacher was moved, and diagnostics.

        `slotcon_plugin.reference` computes the same in plain torch.
        """
        if self.training and not self.teacher_moves:
            raise RuntimeError(
                "The teacher was not moved before the first step. Train with custom_hooks=[dict("
                "type='TeacherHook')], or call update_teacher(step, total_steps) before each step."
            )

        # 1. Grouping: each view on its own, through student and teacher.
        # The teacher is first: what it does not keep is free before the student keeps its maps.
        teacher_views = [self.teacher(view) for view in views]
        student_views = [self.group(view) for view in views]

        # 2. to 6. of each level.
        outputs, levels = {}, self.levels
        idle_steps = self.idle_steps.split(list(self.prototypes_of_levels.values()))
        groupings = zip(*student_views, strict=True), zip(*teacher_views, strict=True)
        for level, student, teacher, idle in zip(levels, *groupings, idle_steps, strict=True):
            losses = level.head.loss(student, teacher, geometry)
            losses = {name: level.weight * loss for name, loss in losses.items()}
            logged = losses | self._diagnose(level.head, teacher, idle)
            outputs |= {name + level.suffix: value for name, value in logged.items()}
        return outputs

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """The teacher's last encoder map (b, c, h, w): what is transferred."""
        maps = self.teacher.backbone(images)
        return maps if isinstance(maps, Tensor) else maps[-1]

    @torch.no_grad()
    def predict(self, images: Tensor, level: str | int | None = None) -> list[BaseDataElement]:
        """The teacher's `scores` (k, h, w), `assignment` (h, w), `slots` (k, d) of each image.

        `level` is "encoder" or the number of a decoder's level; None: the finest.
        """
        position = self.position(level)
        view = self.teacher(images, levels=position + 1)[position]
        every_k = torch.arange(view.scores.shape[1], device=images.device).expand(len(images), -1)
        slots_bkd = view.pool(every_k)
        return [
            BaseDataElement(scores=scores_khw, assignment=scores_khw.argmax(dim=0), slots=slots_kd)
            for scores_khw, slots_kd in zip(view.scores, slots_bkd, strict=True)
        ]

    @torch.no_grad()
    def _diagnose(
        self, head: nn.Module, teacher_views: Sequence[Grouping], idle_steps_k: Tensor
    ) -> dict[str, Tensor]:
        """What is logged of a level beside its losses, from the teacher's views.

        `idle_steps_k`, the steps since each prototype won a pixel, is updated.
        """
        active_bk = torch.cat([slot_mask(v.active, head.num_prototypes) for v in teacher_views])
        used_k = any_process(active_bk.any(dim=0))
        if self.training:
            idle_steps_k.copy_(torch.where(used_k, 0, idle_steps_k + 1))
        return dict(
            prototypes_used=used_k.float().mean(),
            prototypes_used_running=(idle_steps_k < RECENT_STEPS).float().mean(),
            active_slots=active_bk.sum(dim=1, dtype=torch.float32).mean(),
            feature_std=feature_std(*(view.directions for view in teacher_views)),
            **head.group_loss.diagnose([view.scores for view in teacher_views]),
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
