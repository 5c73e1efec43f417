"""One picture of several images and their groups."""

from pathlib import Path

from PIL import Image

from ..errors import ConfigError, DataError
from ..runtime.atomic_files import write_atomically
from ..runtime.work_dir import check_writable
from ..visualization.contact_sheet import draw_sheet, png_bytes
from .load import load
from .trained_model import Images, SlotConModel


def plot_groups(
    images: Images,
    model: SlotConModel | str | Path,
    out: str | Path | None = None,
    size: int = 320,
    overwrite: bool = False,
) -> Image.Image:
    """Draw each image above its groups, in one picture.

    Args:
        images: see `SlotConModel`; one or several.
        model: what `load` returns or takes.
        out: a .png file for the picture.
        size: see `SlotConModel`.
        overwrite: replace `out` if it is there; otherwise this is an error.
    """
    if out is not None:
        if Path(out).suffix.lower() != ".png":
            raise ConfigError(f"out is {out}, expected the name of a .png file.")
        inputs = [one for one in [model] if isinstance(one, str | Path)]
        check_writable(out, "out", inputs=inputs, overwrite=overwrite)
    found = load(model).groups(images, size)
    found = found if isinstance(found, list) else [found]
    if not found:
        raise DataError("No image is given to draw.")
    sheet = draw_sheet({"groups": [(one.image, one.assignment) for one in found]})
    if out is not None:
        write_atomically(png_bytes(sheet), out)
    return sheet
