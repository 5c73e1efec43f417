"""Dense nearest-neighbor retrieval: a pixel is labeled by the most similar training pixels.

Balažević et al., "Towards In-Context Scene Understanding" (NeurIPS 2023, arXiv 2306.01667):
nothing is trained; features of training images and the labels below them are remembered. Unlike
there, images are center squares without augmentation, and the memory takes one pass over them.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..functional.collectives import gather_in_order, rank, sum_over_processes, world_size
from ..functional.dense import label_shares, upsampled_argmax
from ..functional.grouping import unit_directions
from ..functional.neighbors import weighted_vote
from .batches import Reading, batches
from .feature_memory import Neighbors, TorchNeighbors
from .matching import confusion_counts, segmentation_scores
from .unsupervised_segmentation import describe

QUERIES = 2048  # cells that are looked up at a time


def remember(
    features: Callable[[Tensor], Tensor], dataset: Dataset, reading: Reading, most: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Directions of training images' cells, and the shares of the classes below them.

    Each image gives equally many cells. As in the paper's appendix, cells of classes that are
    rare in their image are preferred: those with the smallest product of a uniform number and the
    summed frequencies of their classes. Cells without labeled pixels are left out.

    Args:
        features: from uint8 images to (b, d, h, w).
        dataset: a `LabeledImages`.
        reading: batches and where they go.
        most: cells of the memory.
        seed: of the choice.

    Returns:
        (n, d) of unit length and (n, l), float32; n is at most `most`. Of all processes, the same
        on each, in the order of the images.
    """
    each = max(most // len(dataset), 1)
    kept, order, image = [], [], rank()
    for batch in batches(dataset, reading, "remembering"):
        directions_bdhw = unit_directions(features(batch["inputs"]))
        shares_bhwl = label_shares(
            batch["labels"], *directions_bdhw.shape[2:], len(dataset.classes)
        )
        for directions_dp, shares_pl in zip(
            directions_bdhw.flatten(2), shares_bhwl.flatten(1, 2), strict=True
        ):
            present_pl = (shares_pl > 0).float()
            frequency_p = present_pl @ present_pl.sum(dim=0)
            # Seeded for each image: the same cells for any number of processes.
            generator = torch.Generator().manual_seed(seed * len(dataset) + image)
            draws_p = torch.rand(len(frequency_p), generator=generator).to(frequency_p)
            order_p = torch.where(frequency_p > 0, frequency_p * draws_p, torch.inf).argsort()
            chosen = order_p[: min(each, int((frequency_p > 0).sum()))]
            kept.append(torch.cat([shares_pl[chosen], directions_dp[:, chosen].T], dim=1))
            order.append(torch.full_like(chosen, image))
            image += world_size()
    rows = gather_in_order(torch.cat(kept), torch.cat(order))[:most]
    answers_nl, directions_nd = rows.tensor_split([len(dataset.classes)], dim=1)
    return directions_nd.contiguous(), answers_nl


def look_up(
    directions_bdhw: Tensor, memory: Neighbors, answers_nl: Tensor, count: int, temperature: float
) -> Tensor:
    """Shares of the classes (b, l, h, w) of each cell, by its nearest in the memory."""
    b, _, h, w = directions_bdhw.shape
    votes = []
    for queries_qd in directions_bdhw.permute(0, 2, 3, 1).flatten(0, 2).split(QUERIES):
        similarity_qn, rows_qn = memory.search(queries_qd, count)
        votes.append(weighted_vote(similarity_qn, answers_nl[rows_qn], temperature))
    return torch.cat(votes).view(b, h, w, -1).permute(0, 3, 1, 2)


def retrieve(
    features: Callable[[Tensor], Tensor],
    train: Dataset,
    test: Dataset,
    reading: Reading,
    count: int = 30,
    temperature: float = 0.02,
    most: int = 100_000,
    search: Callable[[Tensor], Neighbors] = TorchNeighbors,
    seed: int = 0,
) -> dict:
    """Remember one data set and segment another.

    Args:
        features: from uint8 images to (b, d, h, w).
        train, test: `LabeledImages` of the same classes.
        reading: batches and where they go; the network is there.
        count: neighbors of a cell.
        temperature: τ of the neighbors' weights.
        most: cells of the memory, which bounds its size: d + l floats a cell.
        search: opens a memory.
        seed: of the cells that are remembered.
    """
    directions_nd, answers_nl = remember(features, train, reading, most, seed)
    count = min(count, len(directions_nd))
    memory = search(directions_nd)
    classes = len(test.classes)
    counts = torch.zeros(classes, classes, dtype=torch.int64, device=reading.device)
    for batch in batches(test, reading, "looking up"):
        directions_bdhw = unit_directions(features(batch["inputs"]))
        shares_blhw = look_up(directions_bdhw, memory, answers_nl, count, temperature)
        labels_byx = batch["labels"]
        predicted_byx = upsampled_argmax(shares_blhw, *labels_byx.shape[1:])
        counts += confusion_counts(predicted_byx, labels_byx, classes, classes)
    scores = describe(segmentation_scores(sum_over_processes(counts).cpu()), test.classes)
    return dict(memory=len(directions_nd), neighbors=count, temperature=temperature, **scores)
