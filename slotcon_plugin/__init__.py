"""SlotCon for MMEngine: self-supervised pretraining on scene images by semantic
grouping.

Importing the package registers its parts with MMEngine (`slotcon_plugin.registry`), which is all
that a config needs: `custom_imports = dict(imports=['slotcon_plugin'])`.

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
digits  themselves, as in `boxes_b4`
======  ======================================================

The floors: `functional` (0) computes; `models`, `optim` and `data` (1) hold state and call it;
`models/slotcon.py`, `engine` and `registry` (2) speak MMEngine; `tools` and `configs` are the
doors.
"""

from . import registry as registry
from .version import __version__ as __version__
