"""List the configs of this package, and its trained networks, by the names that commands take.

The detectron2 and benchmark files among them are for `train_detectron2` and `benchmark`. For one of
your own: _base_ = 'slotcon_plugin::pretrain/slotcon_r50_coco.py', and what differs.
"""

import argparse
import sys

from command_line import new_parser, run_api


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__)
    text = "print only the path of this config's file, e.g. to copy it; or of zoo:NAME"
    parser.add_argument("--path", metavar="NAME", help=text)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run_api("print_configs", parse_args()))
