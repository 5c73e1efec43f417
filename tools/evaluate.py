"""See what an encoder learned, without fine-tuning it.

  unsupervised   SlotCon's prototypes against classes: unsupervised semantic segmentation
  overcluster    k-means clusters of any encoder's features against classes
  retrieval      label pixels by the most similar training pixels (dense nearest neighbours)
  probe          train one linear layer of every pixel on frozen features
  knn            label whole pictures by the most similar training pictures

`tools/evaluate.py SUB-COMMAND --help` tells what each one takes. Results are printed as a table;
--out writes all of them, class by class, as JSON.
"""

import argparse
import os
import sys
from pathlib import Path

EXAMPLES = """
networks (all but `unsupervised`):
  epoch_800.pth                  a checkpoint of ours or a published one: the teacher's encoder
  resnet50.pth, .pkl, …          an exported encoder, or torchvision's own weights
  random:resnet50                weights as training starts with
  supervised:resnet50            torchvision's ImageNet weights, downloaded once

examples:
  the unsupervised protocol of COCO-Stuff 27, from COCO's panoptic annotations:
    python tools/evaluate.py unsupervised epoch_800.pth --pictures coco/val2017 \\
        --labels annotations/panoptic_val2017.json --labels-format panoptic
  the same from COCO-Stuff's pixel maps, on a list of pictures, in 8 processes:
    torchrun --nproc-per-node 8 tools/evaluate.py unsupervised epoch_800.pth \\
        --pictures coco/val2017 --labels stuffthingmaps/val2017 --list curated.txt
  compare encoders on the same footing:
    python tools/evaluate.py overcluster random:resnet50 --clusters 27 100 500 --pictures …
  retrieval on VOC:
    python tools/evaluate.py retrieval epoch_800.pth --pictures VOC2012/JPEGImages \\
        --labels VOC2012/SegmentationClass --labels-format voc \\
        --train-list VOC2012/ImageSets/Segmentation/train.txt \\
        --list VOC2012/ImageSets/Segmentation/val.txt
"""
MATCHINGS = ("one-to-one", "many-to-one")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    kind = dict(formatter_class=argparse.RawDescriptionHelpFormatter)
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, **kind)
    commands = parser.add_subparsers(dest="command", required=True, metavar="SUB-COMMAND")

    one = commands.add_parser("unsupervised", help="prototypes against classes")
    one.description = (
        "Each pixel goes to the prototype with the largest cosine; prototypes are matched to "
        "classes over the whole set. One-to-one (Hungarian) is the protocol and needs as many "
        "prototypes as classes: pixels of prototypes left over are errors. Many-to-one gives each "
        "prototype its majority class, and grows with the number of prototypes."
    )
    one.add_argument("network", metavar="CHECKPOINT", help="a full checkpoint")
    one.add_argument("--part", choices=("teacher", "student"), default="teacher")
    _add_matching(one)
    _add_pixels(one, "coco-stuff", 320)

    one = commands.add_parser("overcluster", help="k-means clusters against classes")
    one.description = (
        "Features of all pictures, of unit length, are clustered by k-means; each pixel goes to "
        "the nearest centre; clusters are matched to classes. The same for every encoder, so that "
        "encoders can be compared. Runs in several processes under torchrun."
    )
    _add_network(one)
    one.add_argument("--clusters", type=int, nargs="+", default=[27, 100, 500], metavar="K")
    one.add_argument(
        "--directions", type=int, default=200_000, help="features that are clustered (%(default)s)"
    )
    _add_matching(one)
    _add_pixels(one, "coco-stuff", 320)
    _add_train(one, "to cluster", "the same pictures that are scored")

    one = commands.add_parser("retrieval", help="dense nearest neighbours")
    one.description = (
        "Cells of training pictures are remembered with their labels; a cell of another picture "
        "gets the weighted labels of its nearest. Nothing is trained (Hummingbird, arXiv "
        "2306.01667)."
    )
    _add_network(one)
    one.add_argument("--memory", type=int, default=100_000, help="cells kept (%(default)s)")
    _add_search(one, 30, 0.02)
    _add_pixels(one, "voc", 512)
    _add_train(one, "to remember", "all of --train-pictures")

    one = commands.add_parser("probe", help="a linear layer of every pixel")
    one.description = (
        "Batch norm and one linear layer are trained on frozen features, without augmentation; "
        "features that fit into 4 GiB are computed once."
    )
    _add_network(one)
    one.add_argument("--epochs", type=int, default=20, help="default: %(default)s")
    one.add_argument("--lr", type=float, default=0.1, help="default: %(default)s")
    _add_pixels(one, "voc", 512)
    _add_train(one, "to train on", "all of --train-pictures")

    one = commands.add_parser("knn", help="whole pictures, in a folder a class")
    one.description = (
        "Features, averaged over each picture, are compared; the nearest training pictures vote."
    )
    _add_network(one)
    one.add_argument("--train", type=Path, required=True, help="folder with a folder a class")
    one.add_argument("--pictures", type=Path, required=True, help="the same, to be classified")
    one.add_argument("--size", type=int, default=224, help="side of the square (%(default)s)")
    _add_search(one, 20, 0.07)
    _add_common(one)
    return parser.parse_args(argv)


def _add_network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "network",
        metavar="NETWORK",
        help="a checkpoint, an exported encoder, random:resnet50 or supervised:resnet50",
    )
    parser.add_argument("--part", choices=("teacher", "student"), help="of a full checkpoint")
    parser.add_argument("--stage", type=int, help="1-4: whose map is taken (default: the last)")
    parser.add_argument(
        "--projected", action="store_true", help="the projector's features, of a full checkpoint"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all chance (%(default)s)")


def _add_matching(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--matching", nargs="+", choices=MATCHINGS, default=MATCHINGS, help="default: both"
    )


def _add_search(parser: argparse.ArgumentParser, count: int, temperature: float) -> None:
    parser.add_argument("--neighbours", type=int, default=count, help="default: %(default)s")
    parser.add_argument(
        "--temperature", type=float, default=temperature, help="of the weights (%(default)s)"
    )
    parser.add_argument("--search", choices=("torch", "faiss"), default="torch", help="%(default)s")


def _add_pixels(parser: argparse.ArgumentParser, labels_format: str, size: int) -> None:
    parser.add_argument(
        "--pictures", required=True, metavar="PATH", help="a folder, a glob or a list file"
    )
    parser.add_argument(
        "--labels", required=True, metavar="PATH", help="a folder of PNG maps, or a panoptic JSON"
    )
    parser.add_argument(
        "--labels-format",
        choices=("coco-stuff", "panoptic", "voc", "ade20k"),
        default=labels_format,
        help="default: %(default)s",
    )
    parser.add_argument("--list", metavar="FILE", help="names of the pictures to score, one a line")
    parser.add_argument("--size", type=int, default=size, help="side of the square (%(default)s)")
    _add_common(parser)


def _add_train(parser: argparse.ArgumentParser, what: str, default: str) -> None:
    parser.add_argument(
        "--train-list", metavar="FILE", help=f"names of the pictures {what}; default: {default}"
    )
    parser.add_argument("--train-pictures", metavar="PATH", help="default: --pictures")
    parser.add_argument("--train-labels", metavar="PATH", help="default: --labels")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-size", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=0, help="processes that read (%(default)s)")
    parser.add_argument("--device", help="default: a GPU where there is one")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bars, no classes")


def open_network(args: argparse.Namespace):
    """The network that the command line names."""
    from slotcon_plugin.errors import ConfigError
    from slotcon_plugin.evaluation.networks import Projected, open_encoder, open_groups

    if args.command == "unsupervised":
        return open_groups(args.network, args.part)
    if not args.projected:
        return open_encoder(args.network, args.part, args.stage, args.seed)
    if args.stage is not None:
        raise ConfigError("--stage chooses an encoder's map; --projected takes the projector's.")
    return Projected(open_groups(args.network, args.part or "teacher"))


def open_pictures(args: argparse.Namespace) -> tuple:
    """The pictures to learn from, None if there are none, and those to score."""
    from slotcon_plugin.data.labelled import LabelledPictures
    from slotcon_plugin.errors import ConfigError
    from slotcon_plugin.evaluation.knn import ClassFolders

    if args.command == "knn":
        train = ClassFolders(args.train, size=args.size)
        return train, ClassFolders(args.pictures, train.classes, args.size)
    test = LabelledPictures(args.pictures, args.labels, args.labels_format, args.size, args.list)
    own = args.command != "unsupervised" and (
        args.train_list or args.train_pictures or args.train_labels
    )
    if not own:
        if args.command in ("retrieval", "probe"):
            raise ConfigError(
                f"{args.command} learns from other pictures than it scores: name them with "
                "--train-list, or with --train-pictures and --train-labels."
            )
        return None, test
    pictures, labels = args.train_pictures or args.pictures, args.train_labels or args.labels
    train = LabelledPictures(pictures, labels, args.labels_format, args.size, args.train_list)
    return train, test


def evaluate(args: argparse.Namespace) -> None:
    """Run the sub-command, print and write what it found."""
    from slotcon_plugin.evaluation import batches, knn, probe, report, retrieval, segmentation
    from slotcon_plugin.evaluation.faiss_memory import SEARCHES
    from slotcon_plugin.functional.collectives import rank
    from slotcon_plugin.progress import ProgressBar

    device = args.device or batches.default_device()
    bar = batches.NoBar if args.quiet else ProgressBar
    reading = batches.Reading(device, args.batch_size, args.workers, bar)
    network, (train, test) = open_network(args).to(device), open_pictures(args)
    if args.command == "unsupervised":
        size = len(network.prototypes_kd)
        results = segmentation.unsupervised(network, size, test, args.matching, reading)
    elif args.command == "overcluster":
        results = segmentation.overcluster(
            network, test, args.clusters, args.matching, reading, train, args.directions, args.seed
        )
    elif args.command == "retrieval":
        choices = args.neighbours, args.temperature, args.memory, SEARCHES[args.search], args.seed
        results = retrieval.retrieve(network, train, test, reading, *choices)
    elif args.command == "probe":
        results = probe.probe(network, train, test, reading, args.epochs, args.lr, seed=args.seed)
    else:
        choices = args.neighbours, args.temperature, SEARCHES[args.search]
        results = knn.classify(network, train, test, reading, *choices)
    if rank() != 0:
        return
    report.show(network.origin, train, test, args.size, results, classes=not args.quiet)
    if args.out:
        options = {name: v for name, v in vars(args).items() if isinstance(v, int | float | str)}
        head = dict(evaluation=args.command, network=network.origin, options=options)
        data = report.data_of(train, test)
        report.write_json(args.out, {**head, "data": data, "results": results})


def main(argv: list[str] | None = None) -> int:
    """Run; turn the user's errors into one message. Returns the exit status."""
    args = parse_args(argv)
    from slotcon_plugin.engine.launch import join_processes, leave_processes, processes
    from slotcon_plugin.errors import SlotConError

    try:
        number, count = processes("pytorch" if "WORLD_SIZE" in os.environ else "none")
        if count > 1:
            join_processes(number, count)
        evaluate(args)
    except SlotConError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        leave_processes()
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without installation too
    sys.exit(main())
