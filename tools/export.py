"""Export the encoder of a checkpoint for another library, or convert a full checkpoint.

CHECKPOINT is a checkpoint of slotcon train or a work dir, of which the last one is used, a
published SlotCon checkpoint, zoo:NAME, an exported file or torchvision's weights. No code in it is
run. The suffix of OUT selects the container. A report lists which tensors were used and dropped,
and the metadata that are stored with the weights.
"""

import argparse
import sys
from pathlib import Path

from command_line import add_overwrite, new_parser, run_api

EXAMPLES = """
examples:
  the teacher's encoder for mmdet and mmseg:
    slotcon export work_dirs/slotcon_r50_coco/epoch_800.pth slotcon_r50.pth --to openmmlab
  for detectron2:
    slotcon export epoch_800.pth slotcon_r50.pkl --to detectron2
  for torchvision or timm:
    slotcon export epoch_800.pth slotcon_r50.safetensors --to timm
  a folder for timm.create_model("local-dir:slotcon_r50", pretrained=True):
    slotcon export epoch_800.pth slotcon_r50 --to timm
  the same with a model card, for the Hugging Face Hub:
    slotcon export epoch_800.pth slotcon_r50 --to hub --license cc-by-4.0
  an ONNX model, from images to the map of features and its mean:
    slotcon export epoch_800.pth slotcon_r50.onnx --to onnx
  the student's encoder of a checkpoint that the paper's authors published:
    slotcon export published.pth slotcon_r50.pth --to torchvision --part student
  the whole teacher, so that slotcon_plugin.load("mine") gives groups too, in a small folder:
    slotcon export work_dirs/slotcon_r18_own mine --to zoo
  convert a published full checkpoint, use it, and convert it to the published format:
    slotcon export published.pth ours.pth --to slotcon
    slotcon train CONFIG --cfg-options load_from=ours.pth
    slotcon export ours.pth again.pth --to published
  print the report and write nothing:
    slotcon export epoch_800.pth slotcon_r50.pkl --to detectron2 --dry-run --keys

containers: .pth and .safetensors for openmmlab, torchvision and timm; .pkl, .pth and .safetensors
    for detectron2; .onnx for onnx; .pth for slotcon and published; folders for hub and zoo,
    and for timm if OUT has no suffix.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__, EXAMPLES)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="see above")
    parser.add_argument("out", type=Path, metavar="OUT", help="the file or folder to write")
    text = (
        "the format of OUT: a library's for an encoder, that of a full checkpoint, or the teacher's"
    )
    formats = ("openmmlab", "torchvision", "timm", "detectron2", "hub", "onnx")
    formats += ("slotcon", "published", "zoo")
    parser.add_argument("--to", required=True, choices=formats, help=text)
    text = "which encoder to export (default: the teacher's, which the paper transfers)"
    parser.add_argument("--part", choices=("teacher", "student"), help=text)
    text = "with the decoder of a pretraining that had one (all, the default), or the encoder alone"
    parser.add_argument("--parts", choices=("all", "encoder"), help=text)
    text = "license of the weights in hub's model card, e.g. mit or cc-by-nc-4.0 (apache-2.0)"
    parser.add_argument("--license", metavar="ID", help=text)
    parser.add_argument("--keys", action="store_true", help="list every tensor in the report")
    add_overwrite(parser, "replace OUT if it is a file")
    parser.add_argument("--dry-run", action="store_true", help="print the report, write nothing")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_api("export", parse_args()))
