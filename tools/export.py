"""Take the encoder out of a checkpoint, for another library; or convert a full checkpoint.

The source is a checkpoint of tools/train.py, a published SlotCon checkpoint, an exported file or
torchvision's own weights; OUT's suffix chooses the container. Nothing in the source is run. What
was used, what was dropped and what travels with the weights is printed.
"""

import argparse
import sys
from pathlib import Path

EXAMPLES = """
examples:
  the teacher's encoder for mmdet and mmseg:
    python tools/export.py work_dirs/slotcon_r50_coco/epoch_800.pth slotcon_r50.pth --to openmmlab
  for detectron2, as its users know it:
    python tools/export.py epoch_800.pth slotcon_r50.pkl --to detectron2
  for torchvision or timm:
    python tools/export.py epoch_800.pth slotcon_r50.safetensors --to timm
  from a checkpoint that the paper's authors published, the student's encoder:
    python tools/export.py published.pth slotcon_r50.pth --to torchvision --part student
  a published full checkpoint becomes ours, to train, evaluate and draw from, and back:
    python tools/export.py published.pth ours.pth --to slotcon
    python tools/train.py CONFIG --cfg-options load_from=ours.pth
    python tools/export.py ours.pth again.pth --to published
  what would be written, without writing:
    python tools/export.py epoch_800.pth slotcon_r50.pkl --to detectron2 --dry-run --keys

containers: .pth and .safetensors for openmmlab, torchvision and timm; .pkl, .pth and .safetensors
    for detectron2; .pth for slotcon and published.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="the source")
    parser.add_argument("out", type=Path, metavar="OUT", help="the file that is written")
    parser.add_argument(
        "--to",
        required=True,
        choices=("openmmlab", "torchvision", "timm", "detectron2", "slotcon", "published"),
        help="the library, or the kind of full checkpoint, that OUT is for",
    )
    parser.add_argument(
        "--part",
        choices=("teacher", "student"),
        help="whose encoder (default: the teacher's, which is what the paper transfers)",
    )
    parser.add_argument("--keys", action="store_true", help="list every tensor in the report")
    parser.add_argument("--dry-run", action="store_true", help="print the report, write nothing")
    return parser.parse_args(argv)


def export_encoder(args: argparse.Namespace) -> tuple[bytes, str]:
    """An encoder for another library: the file's bytes and the report."""
    from slotcon_plugin.checkpoints import read_encoder
    from slotcon_plugin.checkpoints.conversion_report import report_encoder
    from slotcon_plugin.checkpoints.export import check_target, export, usage

    check_target(args.to, args.out.suffix)
    encoder = read_encoder(args.checkpoint, args.part)
    data, used = export(encoder, args.to, args.out.suffix)
    report = report_encoder(encoder, used, args.keys)
    return data, f"{report}\nload it with:  {usage(encoder, args.to, args.out)}"


def convert_checkpoint(args: argparse.Namespace) -> tuple[bytes, str]:
    """A full checkpoint in the other format: the file's bytes and the report."""
    from slotcon_plugin.checkpoints.containers import pth_bytes, read_file
    from slotcon_plugin.checkpoints.conversion_report import report_checkpoint
    from slotcon_plugin.checkpoints.published import to_ours, to_published
    from slotcon_plugin.errors import CheckpointError

    if args.out.suffix != ".pth":
        raise CheckpointError(
            f"--to {args.to} is a full checkpoint and is written as .pth, not as {args.out.suffix}:"
            " it holds more than tensors."
        )
    if args.part is not None:
        raise CheckpointError(f"--part has no meaning with --to {args.to}: all parts go over.")
    convert = {"slotcon": to_ours, "published": to_published}[args.to]
    done = convert(read_file(args.checkpoint), str(args.checkpoint))
    report = report_checkpoint(args.checkpoint, done, args.keys)
    return pth_bytes(done.content), report


def main(argv: list[str] | None = None) -> int:
    """Run; turn the user's errors into one message. Returns the exit status."""
    args = parse_args(argv)
    from slotcon_plugin.errors import CheckpointError, SlotConError
    from slotcon_plugin.runtime.atomic_files import write_atomically

    try:
        if args.out.exists() and args.checkpoint.exists() and args.out.samefile(args.checkpoint):
            raise CheckpointError(f"OUT is the checkpoint itself, {args.out}: name another file.")
        full = args.to in ("slotcon", "published")
        data, report = (convert_checkpoint if full else export_encoder)(args)
        print(report)
        if args.dry_run:
            print(f"dry run: {args.out} ({len(data):,} bytes) was not written")
            return 0
        try:
            write_atomically(data, args.out)
        except OSError as error:
            raise CheckpointError(f"{args.out} cannot be written: {error.strerror}.") from error
        print(f"written:       {args.out} ({len(data):,} bytes)")
    except SlotConError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without installation too
    sys.exit(main())
