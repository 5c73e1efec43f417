"""What two processes with the same dataset must have in common."""

from collections.abc import Iterator

from torch.utils.data import Dataset

from ..runtime.process_agreement import digest
from .unlabeled_images import UnlabeledImages


def dataset_facts(dataset: Dataset) -> dict[str, str]:
    """The number of images and a digest of their paths, for labeled images with the labels.

    A gigabyte takes about a second.
    """
    return {"images": f"{len(dataset)} (digest of the list: {digest(_lists(dataset))})"}


def _lists(dataset: Dataset) -> Iterator[bytes | memoryview]:
    """The lists of a dataset's images; of those in it if it is a wrapper of others."""
    if isinstance(dataset, UnlabeledImages):
        yield from dataset.paths.digest_parts()
    elif hasattr(dataset, "data_bytes"):  # of MMEngine's BaseDataset: the annotations, pickled
        yield memoryview(dataset.data_bytes)
    for inner in getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]:
        if inner is not None:
            yield from _lists(inner)
