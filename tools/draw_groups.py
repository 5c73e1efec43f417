"""Draw to which prototype each pixel of some photographs belongs, before and after pretraining."""

import argparse
import sys
from pathlib import Path

EXAMPLES = """
example:
  python tools/draw_groups.py configs/pretrain/slotcon_r50_coco.py epoch_800.pth --out groups.png

Without --images the first images of the config's training set are drawn.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="the pretraining's config")
    parser.add_argument("checkpoint", help="a checkpoint of it")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the image, .png")
    parser.add_argument("--images", metavar="PATH", help="a folder, a glob or a list file")
    parser.add_argument("--count", type=int, default=6, help="photographs (%(default)s)")
    parser.add_argument(
        "--cfg-options", nargs="+", metavar="KEY=VALUE", help="those of the training"
    )
    return parser.parse_args(argv)


def draw(args: argparse.Namespace) -> None:
    """Build the model twice, as it starts and as it was trained, and draw both."""
    import io

    import torch
    from mmengine.registry import MODELS

    import slotcon_plugin  # noqa: F401  (registers the parts)
    from slotcon_plugin.datasets.decode import read_image
    from slotcon_plugin.datasets.sources import list_images
    from slotcon_plugin.runtime.atomic_files import write_atomically
    from slotcon_plugin.runtime.config_options import read_config
    from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely
    from slotcon_plugin.transfer.test_setup import check_weights
    from slotcon_plugin.visualization.groups import draw_groups, group_photographs

    cfg = read_config(args.config, args.cfg_options)
    dataset = cfg.train_dataloader.dataset
    preset = None if args.images else dataset.get("preset")
    paths = list_images(args.images or dataset.source, preset)[: args.count]
    checkpoint = load_checkpoint_safely(args.checkpoint)
    torch.manual_seed(checkpoint.get("meta", {}).get("seed") or 0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    check_weights(model, checkpoint, args.checkpoint)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device)
    photographs = [read_image(path) for path in paths]
    rows = {"random weights": group_photographs(model, photographs)}
    model.load_state_dict(checkpoint["state_dict"])
    rows["after pretraining"] = group_photographs(model, photographs)
    figure = io.BytesIO()
    draw_groups(rows, model.num_prototypes, args.count).savefig(figure, dpi=100)
    write_atomically(figure.getvalue(), args.out)
    print(f"written: {args.out}")


def main(argv: list[str] | None = None) -> int:
    """Run; turn the user's errors into one message. Returns the exit status."""
    args = parse_args(argv)
    from slotcon_plugin.errors import SlotConError

    try:
        draw(args)
    except SlotConError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without installation too
    sys.exit(main())
