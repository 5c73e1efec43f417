"""Checks a sample of the label maps of a segmentation dataset, as its training will read them."""

import copy
import inspect
from typing import NamedTuple

from mmengine.dataset import BaseDataset

from ..datasets.seeding import SeedFromDraw
from ..errors import ConfigError, DataError
from ..evaluation.index_maps import read_index_map, sample, upright_size, values_in
from ..runtime.text_formats import listed

MOST, SECONDS = 256, 20  # maps to look at, and how long
ENOUGH = 64  # maps in which most classes occur
IGNORED = 255


class Looked(NamedTuple):
    """One map: its path, the values in the file, and the classes that training gets."""

    path: str
    values: set[int]
    classes: set[int]


def check_maps(
    dataset: BaseDataset, entry: str, num_classes: dict[str, int], ignored: int = IGNORED
) -> str | None:
    """Raise DataError or ConfigError if label maps do not fit the model.

    Args:
        dataset: built; its pipeline has mmseg's or mmdet's LoadAnnotations.
        entry: its key in the config.
        num_classes: keys and values of the numbers of classes in the model's config.
        ignored: the value of pixels that the loss leaves out, `ignore_index` of the head.

    Returns a line that says how many were looked at; None if the dataset has no maps.
    """
    loaders = loading_steps(dataset, "with_seg")
    if not (num_classes and loaders and dataset.get_data_info(0).get("seg_map_path")):
        return None
    number, loader = loaders[0]
    reduced = _reduces_zero(dataset, entry, f"{entry}.pipeline.{number}", loader)
    key, fewest = min(num_classes.items(), key=lambda item: item[1])
    names = dataset.metainfo.get("classes") or ()
    if len(names) > fewest:
        raise ConfigError(
            f"{entry} ({type(dataset).__name__}) has {len(names)} classes, but {key} is {fewest}. "
            f"Set {key}={len(names)}, or name the classes in {entry}.metainfo.classes."
        )
    looked = sample(lambda i: _look(dataset, i, loader), len(dataset), MOST, SECONDS)
    values = set.union(*(one.values for one in looked))
    found = set.union(*(one.classes for one in looked)) - {ignored}
    marked = [one.path for one in looked if IGNORED in one.values]
    if reduced and marked:
        raise DataError(
            f"{entry} has reduce_zero_label=True, for maps in which 0 is no class, but the map "
            f"{marked[0]} (and {len(marked) - 1} others of {len(looked)}) marks pixels without a "
            f"class by {IGNORED}. Set reduce_zero_label=False in the dataset and its pipeline if 0 "
            f"is a class in the maps; otherwise write 0 for {IGNORED} in them."
        )
    if wrong := found - set(range(fewest)):
        first = next(one for one in looked if one.classes & wrong)
        advice = f"Choose maps of this dataset, or set {key}"
        if not reduced and wrong == {fewest} and 0 in values:
            advice = "If 0 is no class in the maps, set reduce_zero_label=True in the dataset and "
            advice += f"its pipeline; otherwise set {key}"
        raise DataError(
            f"The label map {first.path} has the values {_listed(first.classes & wrong)} (in all "
            f"{len(looked)} maps looked at: {_listed(wrong)}), but {key} is {fewest}: classes 0 to "
            f"{fewest - 1}, and {ignored} for pixels without one. {advice} and the dataset's "
            "classes."
        )
    empty = sum(one.classes == {ignored} for one in looked)
    if len(looked) > 1 and len(found) < 2:
        what = f"only the class {min(found)}" if found else "no labeled pixel"
        raise DataError(
            f"The {len(looked)} label maps of {entry} that were looked at have {what}: values "
            f"{_listed(values)}, first {looked[0].path}. {ignored} is ignored, so the foreground "
            "of masks must be 1, not 255."
        )
    rare = len(looked) >= ENOUGH and 4 * len(found) < fewest
    return (
        f"labels of {entry}: {len(looked):,} of {len(dataset):,} maps were looked at, "
        f"{len(found)} of {fewest} classes occur"
        + f", {empty} maps have none" * (empty > 0)
        + ". These are few: are they maps of this dataset?" * rare
    )


def loading_steps(dataset: BaseDataset, what: str) -> list[tuple[int, object]]:
    """The steps of a pipeline that load `what`, such as "with_seg", with their numbers in the
    config: without `SeedFromDraw`, which `fit_random_numbers` adds."""
    steps = [one for one in dataset.pipeline.transforms if not isinstance(one, SeedFromDraw)]
    return [(i, step) for i, step in enumerate(steps) if getattr(step, what, False)]


def _reduces_zero(dataset: BaseDataset, entry: str, step: str, loader: object) -> bool:
    """Whether the value 0 is no class, for the dataset, its pipeline and its kind of maps alike."""
    reduced = bool(getattr(dataset, "reduce_zero_label", False))
    if getattr(loader, "reduce_zero_label", None) not in (None, reduced):
        raise ConfigError(
            f"{entry}.reduce_zero_label is {reduced}, but {step}.reduce_zero_label is "
            f"{loader.reduce_zero_label}. Set both to the same: True if the value 0 of the maps is "
            "no class and 1 the first one."
        )
    known = type(dataset).METAINFO.get("classes")
    usual = _default_reduction(type(dataset))
    if known and list(known) == list(dataset.metainfo["classes"]) and reduced != usual:
        zero = "no class" if usual else repr(known[0])
        raise ConfigError(
            f"{entry}.reduce_zero_label is {reduced}, but in the maps of {type(dataset).__name__} "
            f"the value 0 is {zero}: set it to {usual}, in the pipeline too. For other maps choose "
            "type='mmseg.BaseSegDataset' and name their classes in metainfo."
        )
    return reduced


def _default_reduction(kind: type) -> bool:
    """Whether the classes of a dataset begin at the value 1, by its constructor's default."""
    for base in kind.__mro__:
        parameters = inspect.signature(base.__init__).parameters
        if "reduce_zero_label" in parameters:
            return parameters["reduce_zero_label"].default is True
    return False


def _look(dataset: BaseDataset, number: int, loader: object) -> Looked:
    info = dataset.get_data_info(number)
    path = info["seg_map_path"]
    values = read_index_map(path)
    found, size = values_in(values), upright_size(info["img_path"])
    if size not in (None, values.shape[::-1]):
        raise DataError(
            f"The label map {path} has {values.shape[1]} x {values.shape[0]} pixels, its image "
            f"{info['img_path']} {size[0]} x {size[1]}. They must have one size."
        )
    if max(found) > IGNORED:
        raise DataError(
            f"The label map {path} has values up to {max(found)}, expected 8 bits: the numbers of "
            f"classes, and {IGNORED} for pixels without one. Convert the maps to classes first."
        )
    try:
        classes = copy.copy(loader).transform(info)["gt_seg_map"]
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        message = f"The label map {path} cannot be used by {type(loader).__name__}: {what}"
        raise DataError(message) from error
    if classes.shape != values.shape:
        raise DataError(
            f"The label map {path} is read as an array of {classes.shape}, expected "
            f"{values.shape}. Set imdecode_backend='pillow' in LoadAnnotations, which does not "
            "apply palettes."
        )
    return Looked(path, found, values_in(classes))


def _listed(values: set[int]) -> str:
    return listed(map(str, sorted(values)))
