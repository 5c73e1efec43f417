"""Every name that a config may use, in one place.

The names go into MMEngine's root registries, where mmdet's and mmseg's configs find them too.
"""

from mmengine.fileio import register_backend
from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    VISBACKENDS,
)

from .datasets.data_preprocessor import TwoViewPreprocessor
from .datasets.samplers import EndlessSampler, ImageSampler
from .datasets.seeding import SeedFromDraw
from .datasets.transforms import TwoViews
from .datasets.unlabeled_images import UnlabeledImages
from .hooks.backbone_hook import BackboneHook
from .hooks.diagnostics_hook import AverageOutputsHook, DiagnosticsHook
from .hooks.feature_rank_hook import FeatureRankHook
from .hooks.fixed_rate_hook import FixedRateHook
from .hooks.freeze_hook import FreezeHook
from .hooks.group_images_hook import GroupImagesHook
from .hooks.loss_guard_hook import LossGuardHook
from .hooks.precise_bn_hook import PreciseBNHook
from .hooks.resume_hook import IterSeedHook, ResumeCheckHook
from .hooks.teacher_hook import TeacherHook
from .hooks.unreadable_images_hook import UnreadableImagesHook
from .hooks.unsupervised_seg_hook import UnsupervisedSegHook
from .hooks.weights_hook import WeightsHook
from .models.backbones import TorchvisionResNet
from .models.decoders import FCNConvolutions
from .models.grouping_loss import GroupingLoss
from .models.head import PrototypeHead
from .models.mlp import PixelProjector, SlotPredictor
from .models.prototypes import Prototypes
from .models.simple_pyramid import SimplePyramid
from .models.slot_loss import SlotLoss
from .models.slotcon import SlotCon
from .models.timm_encoder import TimmEncoder
from .optim.lars import SlotConLARS
from .optim.layer_decay import LayerDecayConstructor
from .optim.schedulers import WarmupCosineLR
from .runtime.amp import CpuAmpOptimWrapper
from .runtime.atomic_files import AtomicLocalBackend
from .runtime.config_files import register_configs
from .runtime.run_loggers import MLflowLogger, WandbLogger
from .transfer.listed_coco import LISTED, ListedCoco

NAMES = {
    MODELS: (
        SlotCon,
        TorchvisionResNet,
        TimmEncoder,
        FCNConvolutions,
        SimplePyramid,
        PixelProjector,
        PrototypeHead,
        Prototypes,
        GroupingLoss,
        SlotLoss,
        SlotPredictor,
        TwoViewPreprocessor,
    ),
    DATASETS: (UnlabeledImages,),
    DATA_SAMPLERS: (ImageSampler, EndlessSampler),
    TRANSFORMS: (SeedFromDraw, TwoViews),
    OPTIMIZERS: (SlotConLARS,),
    OPTIM_WRAPPERS: (CpuAmpOptimWrapper,),
    OPTIM_WRAPPER_CONSTRUCTORS: (LayerDecayConstructor,),
    PARAM_SCHEDULERS: (WarmupCosineLR,),
    VISBACKENDS: (WandbLogger, MLflowLogger),
    HOOKS: (
        TeacherHook,
        LossGuardHook,
        AverageOutputsHook,
        DiagnosticsHook,
        FeatureRankHook,
        GroupImagesHook,
        UnreadableImagesHook,
        WeightsHook,
        ResumeCheckHook,
        IterSeedHook,
        BackboneHook,
        FixedRateHook,
        FreezeHook,
        PreciseBNHook,
        UnsupervisedSegHook,
    ),
}

for _registry, _classes in NAMES.items():
    for _class in _classes:
        _registry.register_module(module=_class)

register_backend("atomic", AtomicLocalBackend)
register_backend(LISTED, ListedCoco)
register_configs()
