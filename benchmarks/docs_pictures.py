"""Make the pictures of README.md and docs/evaluation.md from a checkpoint of the demo.

python benchmarks/docs_pictures.py work_dirs/demo/iter_200.pth writes docs/groups.webp and
docs/gallery.webp, which are lossy: as PNG they would be five times as large.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs without installation too

from slotcon_plugin.apis.draw_groups import draw_groups  # noqa: E402
from slotcon_plugin.apis.visualize import visualize  # noqa: E402
from slotcon_plugin.datasets.sample_images import sample_photographs  # noqa: E402

SHOWN = ("astronaut", "coffee", "china", "flower")  # of groups.webp: one line
CONFIG = ROOT / "configs" / "pretrain" / "slotcon_r18_demo.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="a folder")
    args = parser.parse_args()
    photographs = [path for path in sample_photographs() if "motorcycle" not in path]
    chosen = [path for path in photographs if Path(path).stem in SHOWN]
    with TemporaryDirectory() as folder:
        groups, album = Path(folder, "groups.png"), Path(folder, "album")
        draw_groups(CONFIG, args.checkpoint, groups, chosen, count=len(SHOWN))
        visualize(args.checkpoint, photographs, album, most_used=5, nearest=5, size=256)
        for picture, name in ((groups, "groups"), (album / "prototypes.png", "gallery")):
            with Image.open(picture) as image:
                image.convert("RGB").save(args.out / f"{name}.webp", quality=85, method=6)


if __name__ == "__main__":
    main()
