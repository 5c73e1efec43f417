"""Make the pictures of README.md and docs/evaluation.md from a checkpoint of the demo.

python benchmarks/docs_pictures.py work_dirs/demo/iter_200.pth writes docs/groups.webp and
docs/gallery.webp, which are lossy: as PNG they would be five times as large. With --camvid FOLDER,
the images of CamVid, docs/camvid_groups.webp of the package's trained network is written too.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs without installation too

from slotcon_plugin.apis.draw_groups import draw_groups  # noqa: E402
from slotcon_plugin.apis.load import load  # noqa: E402
from slotcon_plugin.apis.visualize import visualize  # noqa: E402
from slotcon_plugin.datasets.sample_images import sample_photographs  # noqa: E402
from slotcon_plugin.visualization.contact_sheet import draw_sheet  # noqa: E402

SHOWN = ("astronaut", "coffee", "china", "flower")  # of groups.webp: one line
FRAMES = ("Seq05VD_f00540", "Seq05VD_f02940", "Seq05VD_f04140", "Seq05VD_f01740")
TRAINED = "zoo:slotcon_r18_camvid"
UNTRAINED = """_base_ = "slotcon_plugin::pretrain/slotcon_r18_small.py"
model = dict(head=dict(prototypes=dict(num_prototypes=64)))
"""
CONFIG = ROOT / "configs" / "pretrain" / "slotcon_r18_demo.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="a folder")
    parser.add_argument("--camvid", type=Path, help="the folder of CamVid's images")
    args = parser.parse_args()
    photographs = [path for path in sample_photographs() if "motorcycle" not in path]
    chosen = [path for path in photographs if Path(path).stem in SHOWN]
    with TemporaryDirectory() as folder:
        groups, album = Path(folder, "groups.png"), Path(folder, "album")
        draw_groups(CONFIG, args.checkpoint, groups, chosen, count=len(SHOWN))
        visualize(args.checkpoint, photographs, album, most_used=5, nearest=5, size=256)
        for picture, name in ((groups, "groups"), (album / "prototypes.png", "gallery")):
            with Image.open(picture) as image:
                write_lossy(image, args.out / f"{name}.webp")
        if args.camvid:
            untrained = Path(folder, "untrained.py")
            untrained.write_text(UNTRAINED)
            frames, rows = [args.camvid / f"{name}.jpg" for name in FRAMES], {}
            for name, source in (("random weights", untrained), (TRAINED, TRAINED)):
                found = load(source, device="cpu").groups(frames)
                rows[name] = [(one.image, one.assignment) for one in found]
            write_lossy(draw_sheet(rows), args.out / "camvid_groups.webp")


def write_lossy(image: Image.Image, path: Path) -> None:
    image.convert("RGB").save(path, quality=85, method=6)


if __name__ == "__main__":
    main()
