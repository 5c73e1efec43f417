"""Every name that a config may use, in one place.

The names go into MMEngine's root registries, where mmdet's and mmseg's configs find them too.
"""

from mmengine.registry import MODELS, OPTIMIZERS, PARAM_SCHEDULERS

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
    ),
    OPTIMIZERS: (SlotConLARS,),
    PARAM_SCHEDULERS: (WarmupCosineLR,),
}

for _registry, _classes in NAMES.items():
    for _class in _classes:
        _registry.register_module(module=_class)
