"""Figures of features that need no labels."""

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..datasets.sources import Source, list_images
from ..functional.spectrum import rank_figures
from .batches import LoaderOptions, Network, sample_rows
from .labeled_images import center_square, read_required


class PlainImages(Dataset):
    """Images without labels; the short side is scaled to `size` and the center square is cut.

    An item is a dict of `inputs`, uint8 (3, size, size) RGB. For the other attributes see
    `LabeledImages`; `images` are those of `sources.list_images`.
    """

    classes = ()

    def __init__(self, images: Source, size: int = 320):
        self.paths, self.size = list_images(images), size
        self.source = dict(folder=str(images))
        self.selection = f"the {len(self.paths)} images of {images}"

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image = read_required(self.paths[index], self.size)
        return dict(inputs=center_square(image, self.size))


def rank_features(
    features: Network,
    train: None,
    test: Dataset,
    loader: LoaderOptions,
    cells: int = 50_000,
    seed: int = 0,
) -> dict:
    """RankMe and α-ReQ of the cells of an encoder's maps, see `functional.spectrum`.

    At most `cells` are used, equally many of each image, chosen by `seed`; the same ones in any
    number of processes. `train` is not used.
    """

    def rows_of(batch: dict[str, Tensor]) -> Tensor:
        return features(batch["inputs"]).flatten(2).transpose(1, 2)

    def choose(rows_pd: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(rows_pd), generator=generator)

    rows_nd = sample_rows(rows_of, choose, test, cells, seed, loader, "encoding")
    rankme, alpha_req = (round(value, 4) for value in rank_figures(rows_nd))
    return dict(rankme=rankme, alpha_req=alpha_req, cells=len(rows_nd), channels=rows_nd.shape[1])
