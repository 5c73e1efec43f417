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

from importlib import import_module
from typing import TYPE_CHECKING

from .installation import check_installation

check_installation()

from . import registry as registry  # noqa: E402
from .version import __version__ as __version__  # noqa: E402

if TYPE_CHECKING:
    from .apis.embed import embed as embed
    from .apis.evaluate import evaluate as evaluate
    from .apis.list_configs import list_configs as list_configs
    from .apis.load import load as load
    from .apis.plot_groups import plot_groups as plot_groups
    from .apis.pretrain import pretrain as pretrain

# The functions of docs/python.md. Each is imported when it is used, from its module in `apis`, as
# they need more libraries than a training.
_FUNCTIONS = ("embed", "evaluate", "list_configs", "load", "plot_groups", "pretrain")


def __getattr__(name: str) -> object:
    if name not in _FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(f"{__name__}.apis.{name}"), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *_FUNCTIONS})
