"""A model's inputs as plain values, which a file may contain, and back."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from mmengine.structures import BaseDataElement
from torch import Tensor

from ..functional.alignment import ViewGeometry

KIND = "__kind__"
PLAIN = str | bytes | bool | int | float | np.ndarray | np.generic | None
# Where the classes of OpenMMLab's samples are; no other class is built.
PLACES = {
    "InstanceData": "mmengine.structures",
    "PixelData": "mmengine.structures",
    "DetDataSample": "mmdet.structures",
    "HorizontalBoxes": "mmdet.structures.bbox",
    "BitmapMasks": "mmdet.structures.mask",
    "PolygonMasks": "mmdet.structures.mask",
    "SegDataSample": "mmseg.structures",
}


def to_plain(value: Any) -> Any:
    """Tensors on the CPU and plain values in dictionaries, lists and tuples.

    Raises a TypeError for a type that `from_plain` cannot build.
    """
    kind = type(value).__name__
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, ViewGeometry):
        return {KIND: kind, "parts": [to_plain(part) for part in value]}
    if isinstance(value, dict):
        return {to_plain(key): to_plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(to_plain, value))
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, BaseDataElement) and kind in PLACES:
        fields = {name: to_plain(part) for name, part in value.items()}
        return {KIND: kind, "metainfo": to_plain(dict(value.metainfo_items())), "fields": fields}
    if kind in PLACES and hasattr(value, "masks"):
        return {KIND: kind, "parts": to_plain([value.masks, value.height, value.width])}
    if kind in PLACES:
        return {KIND: kind, "parts": [to_plain(value.tensor)]}
    raise TypeError(f"its inputs contain a {kind}, which is not written")


def from_plain(value: Any, convert: Callable[[Tensor], Tensor]) -> Any:
    """What `to_plain` was given, with `convert` applied to each tensor."""
    if isinstance(value, Tensor):
        return convert(value)
    if isinstance(value, list | tuple):
        return type(value)(from_plain(part, convert) for part in value)
    if not isinstance(value, dict):
        return value
    content = {key: from_plain(part, convert) for key, part in value.items()}
    if KIND not in value:
        return content
    if value[KIND] == "ViewGeometry":
        return ViewGeometry(*content["parts"])
    made = getattr(import_module(PLACES[value[KIND]]), value[KIND])
    if "parts" in content:
        return made(*content["parts"])
    made = made(metainfo=content["metainfo"])
    for name, part in content["fields"].items():
        setattr(made, name, part)
    return made
