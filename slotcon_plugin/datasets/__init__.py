"""Images on their way from files to the model.

==============  ============================================================================
`sources`       finding the files
`paths`         holding millions of paths in memory that workers share
`decode`        one file into 8-bit RGB
`views`         two random crops, their common region, the parameters of their colors
`dataset`       all of the above for one draw, and what happens to broken files
`seeding`       one seed a draw
`sampler`       the order, and each process's share
`samples`       photographs for a first look, from scikit-image and scikit-learn
`photometric`   color operations on a batch, on the device
`labels`        formats of pixel labels, for evaluation
`coco_stuff`    the 27 coarse classes of COCO-Stuff
`labeled`      images with labels, cut to one size
`preprocessor`  batch in, the model's arguments out (floor 2)
==============  ============================================================================
"""

from .samplers import EndlessSampler, ImageSampler
from .seeding import Draw, SeededIndex, SeedFromDraw
from .transforms import TwoViews
from .unlabeled_images import UnlabeledImages

__all__ = [
    "Draw",
    "EndlessSampler",
    "ImageSampler",
    "SeedFromDraw",
    "SeededIndex",
    "TwoViews",
    "UnlabeledImages",
]
