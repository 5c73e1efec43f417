"""Repeat a training step whose loss or gradient was not finite.

LossGuardHook keeps such a step in the work dir, in nonfinite_step/rank0.pth, with one file for each
process: inputs, weights before the update, random states, config. This prints its losses, its
gradients, and the first module whose output is not finite.
"""

import argparse
import sys

from command_line import new_parser, run_api

EXAMPLES = """
examples:
  as in the training:
    slotcon replay work_dirs/slotcon_r50_coco/nonfinite_step/rank0.pth
  on the CPU in float64, to see whether the precision is the cause:
    slotcon replay work_dirs/slotcon_r50_coco/nonfinite_step/rank0.pth --device cpu --double
"""


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__, EXAMPLES)
    parser.add_argument("file", help="file of a kept step; those of other processes lie beside it")
    text = "where to compute (default: as in the training)"
    parser.add_argument("--device", choices=("cpu", "cuda"), help=text)
    text = "precision (default: as in the training)"
    parser.add_argument("--amp", choices=("fp16", "bf16", "off"), help=text)
    parser.add_argument("--double", action="store_true", help="compute in float64")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run_api("replay", parse_args()))
