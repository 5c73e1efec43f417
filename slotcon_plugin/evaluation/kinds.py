"""The kinds of evaluation: their functions, their options and the defaults."""

import inspect
from pathlib import Path

from torch import nn
from torch.utils.data import Dataset

from ..errors import ConfigError
from ..models.levels import ENCODER
from ..runtime.config_rules import check_value, or_none, whole
from .batches import check_disjoint
from .knn import ClassFolders, classify
from .label_free import PlainImages, rank_features
from .labeled_images import LabeledImages
from .networks import DenseFeatures, open_encoder, open_groups
from .probe import probe
from .retrieval import retrieve
from .unsupervised_segmentation import overcluster, unsupervised

FUNCTIONS = {
    "unsupervised": unsupervised,
    "overcluster": overcluster,
    "retrieval": retrieve,
    "probe": probe,
    "knn": classify,
    "rank": rank_features,
}


def own_options(kind: str) -> dict:
    """The options of a function of FUNCTIONS, after network, train, test and loader."""
    parameters = list(inspect.signature(FUNCTIONS[kind]).parameters.values())[4:]
    return {p.name: p.default for p in parameters if p.kind is not p.KEYWORD_ONLY}


_ENCODER = dict(part=None, stage=None, level=None, projected=False, output_stride=None, seed=0)
_COCO_STUFF = dict(labels=None, labels_format="coco-stuff", list=None, size=320)
_VOC = _COCO_STUFF | dict(labels_format="voc", size=512)
_TRAIN = dict(train_list=None, train_images=None, train_labels=None)
_SHARED = {
    "unsupervised": dict(part="teacher", level=None, seed=0) | _COCO_STUFF,
    "overcluster": _ENCODER | _COCO_STUFF | _TRAIN,
    "retrieval": _ENCODER | _VOC | _TRAIN,
    "probe": _ENCODER | _VOC | _TRAIN,
    "knn": _ENCODER | dict(train=None, size=224),
    "rank": _ENCODER | dict(size=320),
}
# Kind of evaluation -> its options and their defaults.
OPTIONS = {kind: shared | own_options(kind) for kind, shared in _SHARED.items()}


def complete_options(kind: str, options: dict) -> dict:
    """The options with the defaults of the kind."""
    if kind not in OPTIONS:
        raise ConfigError(f"kind is {kind!r}, expected one of {', '.join(OPTIONS)}.")
    defaults = OPTIONS[kind]
    if unknown := options.keys() - defaults.keys():
        raise ConfigError(
            f"{kind} has no option {sorted(unknown)[0]!r}; it has {', '.join(sorted(defaults))}."
        )
    options = defaults | options
    required = {"knn": "train", "rank": "size"}.get(kind, "labels")
    if options[required] is None:
        raise ConfigError(f"{kind} needs the option {required!r}.")
    # A smaller image has no cell at stride 32; a square of the largest has 268 megapixels.
    check_value("--size", options["size"], whole(32, 2**14))
    check_value("--output-stride", options.get("output_stride"), or_none(whole(1)))
    return options


def open_network(kind: str, source: str, options: dict) -> nn.Module:
    """What a kind of evaluation scores: prototypes, or features; see `networks`."""
    if kind == "unsupervised":
        return open_groups(source, options["part"], options["level"], options["seed"])
    features = _open_features(source, options)
    if options["output_stride"] is not None:
        features.set_output_stride(options["output_stride"])
    return features


def _open_features(source: str, options: dict) -> DenseFeatures:
    part, level, seed = options["part"], options["level"], options["seed"]
    if not options["projected"]:
        return open_encoder(source, part, options["stage"], seed, level)
    if options["stage"] is not None:
        raise ConfigError("--stage selects an encoder's map, --projected the projector's: use one.")
    level = ENCODER if level is None else level
    return open_groups(source, part or "teacher", level, seed).features


def open_images(kind: str, images: str | Path, options: dict) -> tuple[Dataset | None, Dataset]:
    """The images to learn from, None if there are none, and those to score."""
    size = options["size"]
    if kind == "rank":
        return None, PlainImages(images, size)
    if kind == "knn":
        train = ClassFolders(options["train"], size=size)
        test = ClassFolders(images, train.classes, size)
        check_disjoint(train, test, "Give another folder with --train or --images.")
        return train, test
    labels, labels_format = options["labels"], options["labels_format"]
    test = LabeledImages(images, labels, labels_format, size, options["list"])
    if not any(options.get(name) for name in _TRAIN):
        if kind in ("retrieval", "probe"):
            raise ConfigError(
                f"{kind} learns from other images than it scores: give --train-list, or "
                "--train-images and --train-labels."
            )
        return None, test
    images, labels = options["train_images"] or images, options["train_labels"] or labels
    train = LabeledImages(images, labels, labels_format, size, options["train_list"])
    if kind != "overcluster":  # which does not use the labels
        check_disjoint(train, test, "Give others with --list and --train-list.")
    return train, test
