"""Photographs that scikit-image and scikit-learn contain, for a first try without a dataset."""

from importlib.util import find_spec
from pathlib import Path

from ..errors import DataError

# fmt: off
PHOTOGRAPHS = {
    "skimage/data": (
        "astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png",
        "motorcycle_right.png",
    ),
    "sklearn/datasets/images": ("china.jpg", "flower.jpg"),
}
# fmt: on


def sample_photographs() -> list[str]:
    """Paths of eight color photographs of scenes; a DataError if one is missing."""
    paths = []
    for folder, names in PHOTOGRAPHS.items():
        spec = find_spec(folder.split("/")[0])
        root = Path(spec.origin).parents[1] if spec else Path()
        paths += [root / folder / name for name in names]
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise DataError(
            f"Sample photographs of scikit-image and scikit-learn are missing: {', '.join(missing)}"
            ". Run pip install 'slotcon_plugin[demo]', or name a folder of your own with --data."
        )
    return [str(path) for path in paths]
