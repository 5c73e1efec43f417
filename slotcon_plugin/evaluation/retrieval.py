"""Dense nearest-neighbor retrieval: a pixel is labeled by the most similar training pixels.

Balažević et al., "Towards In-Context Scene Understanding" (NeurIPS 2023, arXiv 2306.01667).
Unlike there, images are center squares without augmentation, and are used once.
"""

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..functional.dense import label_shares
from ..functional.grouping import unit_directions
from ..functional.neighbors import nearest, weighted_vote
from .batches import LoaderOptions, Network, sample_rows
from .segmentation_scores import score_predictions

QUERIES = 2048  # cells that are compared with the memory at a time


def build_memory(
    features: Network, dataset: Dataset, loader: LoaderOptions, limit: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Directions of training images' cells, and the shares of the classes below them.

    Returns (n, d) of unit length and (n, l), n <= `limit`, of all processes; each image contributes
    equally many cells. As in the paper's appendix, cells of classes that are rare in their image
    are preferred: those with the smallest product of a uniform random number and the summed
    frequencies of their classes. Cells without labeled pixels are left out.
    """
    num_classes = len(dataset.classes)

    def rows(batch: dict[str, Tensor]) -> Tensor:
        directions_bdhw = unit_directions(features(batch["inputs"]))
        shares_bhwl = label_shares(batch["labels"], *directions_bdhw.shape[2:], num_classes)
        parts = shares_bhwl.flatten(1, 2), directions_bdhw.flatten(2).transpose(1, 2)
        return torch.cat(parts, dim=2)

    def choose(rows_pd: Tensor, generator: torch.Generator) -> Tensor:
        present_pl = (rows_pd[:, :num_classes] > 0).float()
        frequency_p = present_pl @ present_pl.sum(dim=0)
        draws_p = torch.rand(len(frequency_p), generator=generator).to(frequency_p)
        order_p = torch.where(frequency_p > 0, frequency_p * draws_p, torch.inf).argsort()
        return order_p[: int((frequency_p > 0).sum())]

    memory = sample_rows(rows, choose, dataset, limit, seed, loader, "building the memory")
    shares_nl, directions_nd = memory.tensor_split([num_classes], dim=1)
    return directions_nd.contiguous(), shares_nl


def usable_neighbors(wanted: int, rows: int) -> tuple[int, dict[str, str]]:
    """The number of neighbors in a memory of so many rows, and a note if it is not the wanted."""
    if wanted <= rows:
        return wanted, {}
    note = f"--neighbors {wanted}: the memory has {rows} rows, and all of them vote."
    return rows, dict(note=note)


def retrieve(
    features: Network,
    train: Dataset,
    test: Dataset,
    loader: LoaderOptions,
    neighbors: int = 30,
    temperature: float = 0.02,
    memory: int = 100_000,
    seed: int = 0,
) -> dict:
    """Segment one `LabeledImages` by the labels of another one of the same classes.

    `neighbors` of each cell vote, with weights of this `temperature`. At most `memory` cells, which
    `seed` chooses, are stored; each takes d + l floats.
    """
    directions_nd, shares_nl = build_memory(features, train, loader, memory, seed)
    count, note = usable_neighbors(neighbors, len(directions_nd))

    def vote(images: Tensor) -> Tensor:
        directions_bdhw = unit_directions(features(images))
        b, _, h, w = directions_bdhw.shape
        votes = []
        for queries_qd in directions_bdhw.permute(0, 2, 3, 1).flatten(0, 2).split(QUERIES):
            similarity_qn, rows_qn = nearest(queries_qd, directions_nd, count)
            votes.append(weighted_vote(similarity_qn, shares_nl[rows_qn], temperature))
        return torch.cat(votes).view(b, h, w, -1).permute(0, 3, 1, 2)

    scores = score_predictions(vote, test, loader)
    used = dict(memory=len(directions_nd), neighbors=count, temperature=temperature)
    return used | scores | note
