"""Every name that a config may use, in one place.

The names go into MMEngine's root registries, where mmdet's and mmseg's configs find them too.
"""

from mmengine.fileio import register_backend
from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    MODELS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
)

from .data.dataset import UnlabelledPictures
from .data.preprocessor import TwoViewPreprocessor
from .data.sampler import EndlessSampler, PictureSampler
from .data.seeding import SeedFromDraw
from .engine.amp import CpuAmpOptimWrapper
from .engine.checkpoint import AtomicLocalBackend
from .engine.hooks.backbone import BackboneHook
from .engine.hooks.diagnostics import DiagnosticsHook, OutputsWindowHook
from .engine.hooks.guard import LossGuardHook
from .engine.hooks.precise_bn import PreciseBNHook
from .engine.hooks.resume import ResumeHook, StepSeedHook
from .engine.hooks.segmentation import UnsupervisedSegHook
from .engine.hooks.teacher import TeacherHook
from .engine.hooks.unreadable import PictureReportHook
from .models.backbones import TorchvisionResNet
from .models.head import PrototypeHead
from .models.losses import GroupingLoss, SlotLoss
from .models.mlp import PixelProjector, SlotPredictor
from .models.prototypes import Prototypes
from .models.slotcon import SlotCon
from .optim.lars import SlotConLARS
from .optim.schedulers import WarmupCosineLR

NAMES = {
    MODELS: (
        SlotCon,
        TorchvisionResNet,
        PixelProjector,
        PrototypeHead,
        Prototypes,
        GroupingLoss,
        SlotLoss,
        SlotPredictor,
        TwoViewPreprocessor,
    ),
    DATASETS: (UnlabelledPictures,),
    DATA_SAMPLERS: (PictureSampler, EndlessSampler),
    TRANSFORMS: (SeedFromDraw,),
    OPTIMIZERS: (SlotConLARS,),
    OPTIM_WRAPPERS: (CpuAmpOptimWrapper,),
    PARAM_SCHEDULERS: (WarmupCosineLR,),
    HOOKS: (
        TeacherHook,
        LossGuardHook,
        OutputsWindowHook,
        DiagnosticsHook,
        PictureReportHook,
        ResumeHook,
        StepSeedHook,
        BackboneHook,
        PreciseBNHook,
        UnsupervisedSegHook,
    ),
}

for _registry, _classes in NAMES.items():
    for _class in _classes:
        _registry.register_module(module=_class)

register_backend("atomic", AtomicLocalBackend)
