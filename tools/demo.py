"""SlotCon in a few minutes: pretrain a small ResNet on photographs and draw its groups.

Without --data it trains on eight photographs that scikit-image and scikit-learn contain. It writes
groups.png (photographs, their groups before and after training, the use of each prototype),
losses.png, logs and a checkpoint into the work dir.
"""

import argparse
import sys
from pathlib import Path

from argument_types import natural, positive


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", metavar="PATH", help="a folder of images, searched to any depth; or a glob"
    )
    parser.add_argument(
        "--work-dir", default="work_dirs/demo", help="folder of the results (default: %(default)s)"
    )
    parser.add_argument("--steps", type=positive, default=200, help="default: %(default)s")
    parser.add_argument("--seed", type=natural, default=0, help="default: %(default)s")
    return parser.parse_args()


def main() -> int:
    """Train and draw. Returns the exit status."""
    args = parse_args()
    from slotcon_plugin.apis.demo import demo
    from slotcon_plugin.runtime.run_command import run_command

    return run_command(lambda: demo(**vars(args)))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without installation too
    sys.exit(main())
