"""The kinds of evaluation: their functions, their options and the defaults."""

import inspect

from .knn import classify
from .probe import probe
from .retrieval import retrieve
from .unsupervised_segmentation import overcluster, unsupervised

FUNCTIONS = {
    "unsupervised": unsupervised,
    "overcluster": overcluster,
    "retrieval": retrieve,
    "probe": probe,
    "knn": classify,
}


def own_options(kind: str) -> dict:
    """The options of a function of FUNCTIONS, after network, train, test and loader."""
    parameters = list(inspect.signature(FUNCTIONS[kind]).parameters.values())[4:]
    return {p.name: p.default for p in parameters if p.kind is not p.KEYWORD_ONLY}


_ENCODER = dict(part=None, stage=None, projected=False, seed=0)
_COCO_STUFF = dict(labels=None, labels_format="coco-stuff", list=None, size=320)
_VOC = _COCO_STUFF | dict(labels_format="voc", size=512)
TRAIN = dict(train_list=None, train_images=None, train_labels=None)
_SHARED = {
    "unsupervised": dict(part="teacher") | _COCO_STUFF,
    "overcluster": _ENCODER | _COCO_STUFF | TRAIN,
    "retrieval": _ENCODER | _VOC | TRAIN,
    "probe": _ENCODER | _VOC | TRAIN,
    "knn": _ENCODER | dict(train=None, size=224),
}
# Kind of evaluation -> its options and their defaults.
OPTIONS = {kind: shared | own_options(kind) for kind, shared in _SHARED.items()}
