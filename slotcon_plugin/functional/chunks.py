"""A batch of large maps, pixel by pixel, a few images at a time."""

import torch
from torch import Tensor

# Bytes of one map's chunk. A CPU's cache holds a few chunks of this size; a GPU wants long kernels.
CPU_CHUNK = 2 * 2**20
DEVICE_CHUNK = 128 * 2**20


def pixel_rows(maps_bkhw: Tensor) -> Tensor:
    """Maps (b, k, h, w) with one row a pixel: (b, h · w, k), a view wherever that is possible."""
    return maps_bkhw.flatten(2).transpose(1, 2)


def empty_maps(like_bkhw: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (b, k, h, w) to be filled, k innermost in memory, and their `pixel_rows`, a view."""
    maps_bkhw = torch.empty_like(like_bkhw, memory_format=torch.channels_last)
    return maps_bkhw, pixel_rows(maps_bkhw)


def image_chunks(maps: Tensor) -> list[slice]:
    """Slices of the images that cover a batch of maps (b, ...), each at least one image."""
    limit = CPU_CHUNK if maps.device.type == "cpu" else DEVICE_CHUNK
    images = len(maps)
    bytes_each = maps[:1].numel() * maps.element_size()
    step = max(limit // max(bytes_each, 1), 1)
    return [slice(start, start + step) for start in range(0, images, step)]
