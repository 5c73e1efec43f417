"""Nearest-neighbor classification of whole images, in a folder for each class as in ImageNet."""

import os
from collections import Counter
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from ..datasets.sources import list_images, report_skipped
from ..errors import ConfigError, DataError
from ..functional.collectives import world_size
from ..functional.neighbors import nearest, weighted_vote
from .batches import LoaderOptions, Network, encode
from .labeled_images import center_square, read_required
from .retrieval import usable_neighbors

QUERIES = 1024  # images that are compared at a time; the votes take this times the classes


class ClassFolders(Dataset):
    """A folder, or an archive, with one folder of images for each class.

    `classes` are the names in order; by default the folders' names, sorted. Images are cut to a
    center square of `size` pixels, after the short side is scaled to size · 256 / 224.
    """

    def __init__(self, root: str | Path, classes: list[str] | None = None, size: int = 224):
        root, self.size, skipped = os.path.expanduser(root), size, Counter()
        start = len(os.path.join(root, ""))
        classes_of = {
            path: path[start:].split("/")[0]
            for path in list_images(root, skipped=skipped)
            if "/" in path[start:]
        }
        found = sorted(set(classes_of.values()))
        if not found:
            raise DataError(f"{root} is not a folder with one folder for each class.")
        self.classes = found if classes is None else classes
        if unknown := sorted(set(found) - set(self.classes)):
            raise DataError(
                f"{root} contains the classes {unknown[:5]}, which the training folder does not."
            )
        number = {name: i for i, name in enumerate(self.classes)}
        self.items = [(path, number[name]) for path, name in classes_of.items()]
        report_skipped(len(self.items), skipped)
        self.source = dict(folder=root)
        self.selection = f"the {len(self.items)} images of {root}"

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        path, label = self.items[index]
        short_side = round(self.size * 256 / 224)
        image = read_required(path, short_side)
        square = center_square(image, self.size, short_side=short_side)
        return dict(inputs=square, labels=label)


def classify(
    features: Network,
    train: ClassFolders,
    test: ClassFolders,
    loader: LoaderOptions,
    neighbors: int = 20,
    temperature: float = 0.07,
) -> dict:
    """Classify each test image by the most similar training images.

    Features are averaged over the map. Neighbors vote with the weight `exp(cosine / temperature)`
    (Wu et al., CVPR 2018; 20 neighbors and 0.07 as in DINO). `test` has `train`'s classes.
    """
    if world_size() > 1:
        raise ConfigError("knn runs in one process; start it without torchrun.")

    def read(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        pooled_bd = features(batch["inputs"]).mean(dim=(2, 3))
        return F.normalize(pooled_bd, dim=1), batch["labels"]

    # On the CPU: ImageNet's features do not fit into the memory of some GPUs.
    memory_nd, labels_n = encode(read, train, loader, "encoding --train")
    queries_md, labels_m = encode(read, test, loader, "encoding --images")
    count, note = usable_neighbors(neighbors, len(memory_nd))
    num_classes, top1, top5 = len(train.classes), 0, 0
    for queries_qd, labels_q in zip(queries_md.split(QUERIES), labels_m.split(QUERIES)):
        found = nearest(queries_qd.to(loader.device), memory_nd, count)
        similarity_qn, rows_qn = (part_qn.cpu() for part_qn in found)
        answers_qnl = F.one_hot(labels_n[rows_qn], num_classes).float()
        votes_ql = weighted_vote(similarity_qn, answers_qnl, temperature)
        hits = votes_ql.topk(min(5, num_classes), dim=1).indices == labels_q[:, None]
        top1 += int(hits[:, 0].sum())
        top5 += int(hits.sum())
    used = dict(neighbors=count, temperature=temperature, memory=len(memory_nd))
    top1, top5 = (round(100 * number / len(test), 4) for number in (top1, top5))
    return used | dict(classes=num_classes, top1=top1, top5=top5) | note
