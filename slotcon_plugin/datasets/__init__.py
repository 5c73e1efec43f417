"""Unlabeled images: files, decoding, two views of each image, samplers, and the data preprocessor.

An item is a function of a draw: image and seed, which the sampler gives. Workers decode and crop;
colors are changed in batches on the device.
"""

from .samplers import EndlessSampler, ImageSampler
from .seeding import Draw, SeededIndex, SeedFromDraw
from .transforms import TwoViews
from .unlabeled_images import UnlabeledImages

# fmt: off
__all__ = [
    "Draw", "EndlessSampler", "ImageSampler", "SeedFromDraw", "SeededIndex", "TwoViews",
    "UnlabeledImages",
]
