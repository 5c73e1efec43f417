"""SlotCon for MMEngine: self-supervised pretraining on scene images by semantic grouping.

Importing the package registers its classes with MMEngine (`slotcon_plugin.registry`). A config
needs only `custom_imports = dict(imports=['slotcon_plugin'])`. `slotcon_plugin/reference.py`
explains the method in plain torch.

Names of tensors end in their axes:

======  ======================================================
`b`     images of a batch, on this process
`v`     views of an image: two
`k`     prototypes, or clusters
`d`     channels of the projected features
`c`     channels of the encoder's features
`h w`   rows and columns of a feature map; `y x` before and
        `i j` after resampling; `p` the two flattened
`m`     candidates for active slots of one image
`q n`   queries; keys, or gathered rows
`l`     classes of labels
digits  that size, as in `boxes_b4`
======  ======================================================

Imports go in one direction between the packages; `[tool.importlinter]` in pyproject.toml lists the
order.
"""

from . import registry as registry
from .version import __version__ as __version__
