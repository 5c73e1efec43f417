"""Looks at the annotations of detection and segmentation configs before the first step."""

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, init_default_scope

from ..errors import ConfigError, DataError, SlotConError
from ..evaluation.index_maps import sample, upright_size
from ..runtime.config_leaves import leaves
from ..runtime.config_options import type_name
from ..runtime.config_rules import LOADERS
from .coco_content import Needs, check_coco, without_gc
from .data_layout import check_layout, evaluators, require_files
from .object_masks import MaskFaults, are_run_lengths, is_in_box
from .segmentation_maps import MOST, SECONDS, check_maps, loading_steps


def check_annotations(cfg: Config, built: Callable[[str], object] | None = None) -> list[str]:
    """Check the labels of a config's datasets; DataError or ConfigError says what to change.

    COCO files are checked while they are loaded, other labels by a sample.

    Args:
        cfg: a config of mmdet or mmseg.
        built: builds the dataset of one of LOADERS, or returns the one that was built meanwhile. By
            default the datasets are built here, with a check of their paths.

    Returns lines that say what was looked at.
    """
    if built is None:
        check_layout(cfg)
        init_default_scope(cfg.get("default_scope") or "mmengine")
    build = built or (lambda name: DATASETS.build(cfg[name].dataset))
    lines, done = [], []
    for name in LOADERS:
        if cfg.get(name) and cfg[name].dataset not in done:
            done.append(cfg[name].dataset)
            lines += _check_one(cfg, name, build)
    return lines


def _check_one(cfg: Config, name: str, build: Callable[[str], object]) -> list[str]:
    """Check the dataset of one loader while it is built, and afterwards."""
    _check_evaluated_file(cfg, name)
    lines = []
    with _explained(name), _checked_coco(cfg, name, lines):
        dataset = build(name)
        if hasattr(dataset, "full_init"):
            dataset.full_init()
    for entry, part in _leaves(dataset, f"{name}.dataset"):
        if len(part) == 0:
            raise _no_samples(part, entry)
        _check_samples(part, entry, cfg)
        head = cfg.model.get("decode_head") or {}
        head = head if isinstance(head, dict) else head[-1]
        ignored = head.get("ignore_index", 255)
        if line := check_maps(part, entry, _class_counts(cfg.model), ignored):
            lines.append(line)
    return lines


def _leaves(dataset: object, entry: str) -> Iterator[tuple[str, BaseDataset]]:
    """The datasets in wrappers, with their keys in the config."""
    if isinstance(dataset, BaseDataset):
        yield entry, dataset
    for i, part in enumerate(getattr(dataset, "datasets", [])):
        yield from _leaves(part, f"{entry}.datasets.{i}")
    for key, inner in (("dataset", ".dataset"), ("_dataset", "")):
        if part := getattr(dataset, key, None):
            yield from _leaves(part, f"{entry}{inner}")


def _check_samples(dataset: BaseDataset, entry: str, cfg: Config) -> None:
    """Read what the dataset says of each image once: are its files there, can its masks be used?"""
    loaders = [step for _, step in loading_steps(dataset, "with_mask")]
    paths, masks = [], MaskFaults()
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        paths += filter(None, (info.get("img_path"), info.get("seg_map_path")))
        for one in info.get("instances", ()) if loaders else ():
            size = [info.get("height"), info.get("width")]
            masks.add(info["img_path"], one.get("mask"), bool(one.get("ignore_flag")), size)
    require_files(paths, cfg.get("data_layout"))
    source = getattr(dataset, "ann_file", None) or entry
    if loaders:
        polygons = not all(getattr(step, "poly2mask", True) for step in loaders)
        masks.check(source, _without_masks(cfg), _with_run_lengths(cfg) if polygons else "")
    read = partial(_check_image, dataset, source, bool(loaders))
    fits = list(chain.from_iterable(sample(read, len(dataset), MOST, SECONDS)))
    if 2 * sum(fits) < len(fits):
        raise DataError(
            f"{source}: the polygons of {len(fits) - sum(fits)} of {len(fits)} objects that were "
            "looked at lie outside of the objects' boxes. Both are in pixels of the image: correct "
            "`segmentation` or `bbox`."
        )


def _mask_steps(node: object, key: str) -> Iterator[tuple[str, dict]]:
    """The steps in a part of a config that load masks, with their keys for --cfg-options: without
    `SeedFromDraw`, which `fit_random_numbers` adds."""
    for name, part in node.items() if isinstance(node, dict) else ():
        if name == "pipeline":
            own = [step for step in part if type_name(step.get("type")) != "SeedFromDraw"]
            steps = ((f"{key}.pipeline.{i}", step) for i, step in enumerate(own))
            yield from ((one, step) for one, step in steps if step.get("with_mask"))
        else:
            yield from _mask_steps(part, f"{key}.{name}")
    for i, part in enumerate(node) if isinstance(node, list | tuple) else ():
        yield from _mask_steps(part, f"{key}.{i}")


def _with_run_lengths(cfg: Config) -> str:
    """Options for run-length encoded masks, in all datasets."""
    steps = [one for name in LOADERS for one in _mask_steps(cfg.get(name), name)]
    return " ".join(
        f"{key}.poly2mask=True" for key, step in steps if not step.get("poly2mask", True)
    )


def _without_masks(cfg: Config) -> str:
    """Options for boxes alone, in all datasets, the model and the evaluation."""
    steps = [key for name in LOADERS for key, _ in _mask_steps(cfg.get(name), name)]
    words = [f"{key}.with_mask=False" for key in steps]
    words.append("model.roi_head.mask_head=None" if "roi_head" in cfg.model else "a model of boxes")
    names = ("val_evaluator", "test_evaluator")
    scored = [one for name in names for one in leaves(cfg.get(name) or {}, name)]
    scored = [key for key, value in scored if key.endswith(".metric") and "segm" in value]
    words += [f"\"{key}=['bbox']\"" for key in scored]  # quoted for a shell
    return " ".join(words)


def _check_image(dataset: BaseDataset, source: str, masks: bool, number: int) -> list[bool]:
    """Check that boxes and masks are of this image; returns which polygons are in their boxes."""
    info = dataset.get_data_info(number)
    image, height, width = info["img_path"], info.get("height"), info.get("width")
    size = upright_size(image)
    if None not in (height, width) and size not in (None, (width, height)):
        raise DataError(
            f"{source}: the image {image} has {size[0]} x {size[1]} pixels, but is annotated as "
            f"{width} x {height}, so boxes and masks do not fit. Correct `width`, `height` and the "
            "coordinates, or use the images that were annotated."
        )
    found = []
    for one in info.get("instances", ()) if masks else ():
        if isinstance(mask := one["mask"], list):
            found.append(is_in_box(mask, one["bbox"]))
        elif not are_run_lengths(mask["counts"], height * width):
            raise DataError(
                f"{source}: the run lengths of a mask in {image} do not make up {height} x {width} "
                f"pixels: {str(mask['counts'])[:60]!r}. Encode the mask again."
            )
    return found


def _class_counts(node: object, key: str = "model") -> dict[str, int]:
    """The numbers of classes in a model's config, by their keys; not those of other tasks.

    STDCHead is an auxiliary head of mmseg for boundaries, with two classes.
    """
    counts = {}
    if isinstance(node, dict) and node.get("type") == "STDCHead":
        return counts
    if isinstance(node, dict | list | tuple):
        for name, part in node.items() if isinstance(node, dict) else enumerate(node):
            if name == "num_classes" and isinstance(part, int):
                counts[f"{key}.{name}"] = part
            elif name not in ("rpn_head", "semantic_head", "sem_seg_head", "backbone"):
                counts |= _class_counts(part, f"{key}.{name}")
    return counts


def _check_evaluated_file(cfg: Config, name: str) -> None:
    """The annotations that are evaluated must be those of the dataset, all of them."""
    phase, dataset = name.partition("_")[0], cfg[name].dataset
    for one in evaluators(cfg, phase):
        if not one.get("ann_file") or not dataset.get("ann_file"):
            continue
        own = os.path.join(dataset.get("data_root") or "", dataset.ann_file)
        advice = f"Set {phase}_evaluator.ann_file"
        if os.path.realpath(own) != os.path.realpath(one.ann_file):
            raise ConfigError(
                f"{phase}_evaluator.ann_file is {one.ann_file}, but the images are those of {own} "
                f"({name}.dataset.ann_file). {advice} to that file."
            )
        if dataset.get("indices") is not None:
            raise ConfigError(
                f"{name}.dataset.indices selects some images, but all of {own} would be evaluated. "
                f"{advice}=None, to evaluate the selected ones."
            )


@contextmanager
def _checked_coco(cfg: Config, name: str, lines: list[str]) -> Iterator[None]:
    """Check the content of COCO files after mmdet has parsed them, so that they are read once."""
    try:
        from mmdet.datasets import CocoDataset
    except ImportError:  # segmentation needs no mmdet
        yield
        return
    load, counts = CocoDataset.load_data_list, _class_counts(cfg.model)
    only_format = [one.get("format_only") for one in evaluators(cfg, name.partition("_")[0])]

    def load_checked(dataset: CocoDataset) -> list[dict]:
        api, classes = type(dataset).COCOAPI, dataset.metainfo["classes"]
        if isinstance(classes, str):
            advice = f"metainfo.classes is a text; of one class write ({classes!r},)"
            raise ConfigError(f"{name}.dataset: {advice}.")
        needs = Needs(
            classes,
            own_classes=list(classes) != list(type(dataset).METAINFO.get("classes", ())),
            num_classes=min(counts.items(), key=lambda item: item[1], default=None),
            crowd_flag=dataset.test_mode,
            objects=not only_format or not all(only_format),
        )

        class Checked(api):
            def createIndex(self) -> None:
                lines.append("labels of " + check_coco(self.dataset, dataset.ann_file, needs))
                super().createIndex()

        if api is not CocoDataset.COCOAPI:  # of another format
            return load(dataset)
        dataset.COCOAPI = Checked
        try:
            with without_gc():
                return load(dataset)
        finally:
            del dataset.COCOAPI

    CocoDataset.load_data_list = load_checked
    try:
        yield
    finally:
        CocoDataset.load_data_list = load


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Name the file in what a library raises while a dataset loads its annotations."""
    try:
        yield
    except SlotConError:
        raise
    except Exception as error:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            dataset = frame.f_locals.get("self")
            if frame.f_code.co_name == "full_init" and isinstance(dataset, BaseDataset):
                if "concatenate" in str(error) and not dataset.data_list:
                    raise _no_samples(dataset, f"{name}.dataset") from error
                if isinstance(error, IndexError) and dataset._indices is not None:
                    raise ConfigError(
                        f"{name}.dataset.indices is {dataset._indices!r:.60}, but the dataset has "
                        f"{len(dataset.data_list)} images: 0 to {len(dataset.data_list) - 1}."
                    ) from error
                raise DataError(
                    f"{type(dataset).__name__} ({name}.dataset) cannot load its annotations, "
                    f"{dataset.ann_file or dataset.data_prefix}: {type(error).__name__}: {error}"
                ) from error
        raise


def _no_samples(dataset: BaseDataset, entry: str) -> DataError:
    suffix = getattr(dataset, "img_suffix", None)
    images = f"images *{suffix} (img_suffix) in " if suffix else "images with objects in "
    return DataError(
        f"{entry} ({type(dataset).__name__}) is empty: it has no {images}"
        f"{dataset.ann_file or dataset.data_prefix}. Check ann_file, data_prefix"
        f"{', img_suffix' if suffix else ''}, indices and filter_cfg."
    )
