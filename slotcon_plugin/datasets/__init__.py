"""Unlabeled images: files, decoding, two views of each image, samplers, and the data preprocessor.

An item is a function of a draw: image and seed, which the sampler gives. Workers decode and crop;
colors are changed in batches on the device.
"""

from .samplers import EndlessSampler as EndlessSampler
from .samplers import ImageSampler as ImageSampler
from .seeding import Draw as Draw
from .seeding import SeededIndex as SeededIndex
from .seeding import SeedFromDraw as SeedFromDraw
from .transforms import TwoViews as TwoViews
from .unlabeled_images import UnlabeledImages as UnlabeledImages
