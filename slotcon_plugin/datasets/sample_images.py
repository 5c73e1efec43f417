"""Photographs that come with scikit-image and scikit-learn, for a first look without a data set."""

from importlib.util import find_spec
from pathlib import Path

from ..errors import DataError

# Color photographs of scenes; the two libraries carry them inside their wheels.
PHOTOGRAPHS = {
    "skimage": (
        "data/astronaut.png",
        "data/chelsea.png",
        "data/coffee.png",
        "data/rocket.jpg",
        "data/motorcycle_left.png",
        "data/motorcycle_right.png",
    ),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}


def sample_photographs() -> list[str]:
    """Paths of the eight photographs.

    Raises:
        DataError: a library is not installed, or does not hold a file that it should.
    """
    paths = []
    for library, names in PHOTOGRAPHS.items():
        spec = find_spec(library)
        if spec is None:
            raise DataError(
                f"{library} is not installed, which carries some of the demo's photographs: "
                "pip install 'slotcon_plugin[demo]', or name a folder of your own with --data."
            )
        paths += [str(Path(spec.origin).parent / name) for name in names]
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        raise DataError(
            f"The demo's photographs are incomplete, {', '.join(missing)} not found: reinstall "
            "scikit-image and scikit-learn, or name a folder of your own with --data."
        )
    return paths
