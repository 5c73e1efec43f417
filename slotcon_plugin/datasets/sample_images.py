"""Photographs that scikit-image and scikit-learn contain, for a first try without a dataset."""

from importlib.util import find_spec
from pathlib import Path

from ..errors import DataError

PHOTOGRAPHS = {
    "skimage/data": (
        "astronaut.png",
        "chelsea.png",
        "coffee.png",
        "rocket.jpg",
        "motorcycle_left.png",
        "motorcycle_right.png",
    ),
    "sklearn/datasets/images": ("china.jpg", "flower.jpg"),
}


def sample_photographs() -> list[str]:
    """Paths of eight color photographs of scenes.

    Raises:
        DataError: a library is not installed, or one of its photographs is missing.
    """
    paths, missing = [], []
    for folder, names in PHOTOGRAPHS.items():
        spec = find_spec(folder.split("/")[0])
        for name in names:
            path = Path(spec.origin).parents[1] / folder / name if spec else Path(folder, name)
            (paths if path.is_file() else missing).append(str(path))
    if missing:
        raise DataError(
            f"Sample photographs of scikit-image and scikit-learn are missing: {', '.join(missing)}"
            ". Run pip install 'slotcon_plugin[demo]', or name a folder of your own with --data."
        )
    return paths
