"""Nearest-neighbor classification of whole images, in folders by class as ImageNet is."""

from collections.abc import Callable
from pathlib import Path

import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..datasets.decode import UnreadableImage, read_image
from ..datasets.sources import list_images
from ..errors import ConfigError, DataError
from ..functional.collectives import world_size
from ..functional.neighbors import weighted_vote
from .batches import Reading, encode
from .feature_memory import Neighbors, TorchNeighbors
from .labeled_images import center_square, to_tensor

QUERIES = 1024  # images that are looked up at a time; bounds the votes: a number for each class


class ClassFolders(Dataset):
    """A folder with one folder of images for each class.

    Args:
        root: the folder.
        classes: names of the classes in order; by default the sub-folders, sorted.
        size: pixels of the square that is cut from the middle, of a short side of size · 256 / 224.
    """

    def __init__(self, root: str | Path, classes: list[str] | None = None, size: int = 224):
        root, self.size = Path(root).expanduser(), size
        if not root.is_dir():
            raise DataError(f"There is no folder {root}. Expected one with a folder a class.")
        found = sorted(path.name for path in root.iterdir() if path.is_dir())
        self.classes = found if classes is None else classes
        unknown = sorted(set(found) - set(self.classes))
        if not found or unknown:
            raise DataError(
                f"{root} holds the classes {unknown[:5]}, which the training folder does not."
                if unknown
                else f"{root} has no folders. Expected one for each class."
            )
        number = {name: i for i, name in enumerate(self.classes)}
        self.items = [(path, number[name]) for name in found for path in list_images(root / name)]
        self.source = dict(folder=str(root))
        self.selection = f"the {len(self.items)} images of {root}"

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        path, label = self.items[index]
        try:
            image = read_image(path)
        except UnreadableImage as error:
            raise DataError(f"{error}. A score without it would be another score.") from error
        short = round(self.size * 256 / 224)
        square = center_square(image, self.size, Image.Resampling.BILINEAR, short)
        return dict(inputs=to_tensor(square), labels=label)


def classify(
    features: nn.Module,
    train: ClassFolders,
    test: ClassFolders,
    reading: Reading,
    count: int = 20,
    temperature: float = 0.07,
    search: Callable[[Tensor], Neighbors] = TorchNeighbors,
) -> dict:
    """Label each test image by the most similar training images.

    Features are averaged over the places of the map. Neighbors vote with the weight
    `exp(cosine / τ)` (Wu et al., CVPR 2018; 20 neighbors and τ = 0.07 as in DINO).

    Args:
        features: from uint8 images to (b, c, h, w).
        train, test: the images; `test` has `train`'s classes.
        reading: batches and where they go.
        count: neighbors.
        temperature: τ.
        search: opens a memory.
    """
    if world_size() > 1:
        raise ConfigError("knn runs in one process; start it without torchrun.")

    def directions(images_b3hw: Tensor) -> Tensor:
        return F.normalize(features(images_b3hw).mean(dim=(2, 3)), dim=1)

    # On the CPU: ImageNet's features are larger than some GPUs' memory.
    memory_nd, labels_n = encode(directions, train, reading, "remembering")
    memory, count = search(memory_nd), min(count, len(memory_nd))
    queries_qd, truth_q = encode(directions, test, reading, "looking up")
    most = min(5, len(train.classes))
    top1 = top5 = 0
    for part_qd, part_q in zip(queries_qd.split(QUERIES), truth_q.split(QUERIES), strict=True):
        found = memory.search(part_qd.to(reading.device), count)
        similarity_qn, rows_qn = (part_qn.cpu() for part_qn in found)
        answers_qnl = F.one_hot(labels_n[rows_qn], len(train.classes)).float()
        votes_ql = weighted_vote(similarity_qn, answers_qnl, temperature)
        hits = votes_ql.topk(most, dim=1).indices == part_q[:, None]
        top1 += int(hits[:, 0].sum())
        top5 += int(hits.sum())
    return dict(
        neighbors=count,
        temperature=temperature,
        memory=len(memory_nd),
        classes=len(train.classes),
        top1=round(100 * top1 / len(test), 4),
        top5=round(100 * top5 / len(test), 4),
    )
