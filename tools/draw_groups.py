"""Draw the prototype of each pixel of some photographs, before and after pretraining."""

import argparse
import sys
from pathlib import Path

from argument_types import add_cfg_options, positive

EXAMPLES = """
example:
  python tools/draw_groups.py configs/pretrain/slotcon_r50_coco.py epoch_800.pth --out groups.png

Without --images the first images of the config's training set are drawn.
"""


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="the pretraining's config")
    parser.add_argument("checkpoint", help="a checkpoint of that pretraining")
    parser.add_argument("--out", required=True, metavar="FILE", help="the figure, .png")
    parser.add_argument("--images", metavar="PATH", help="a folder, a glob or a list file")
    parser.add_argument("--count", type=positive, default=6, help="photographs (%(default)s)")
    add_cfg_options(parser)
    return parser.parse_args()


def main() -> int:
    """Draw. Returns the exit status."""
    args = parse_args()
    from slotcon_plugin.apis.draw_groups import draw_groups
    from slotcon_plugin.runtime.run_command import run_command

    return run_command(lambda: draw_groups(**vars(args)))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without installation too
    sys.exit(main())
