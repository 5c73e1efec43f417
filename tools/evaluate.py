"""See what an encoder learned, without fine-tuning it.

  unsupervised   SlotCon's prototypes against classes: unsupervised semantic segmentation
  overcluster    k-means clusters of any encoder's features against classes
  retrieval      label pixels by the most similar training pixels (dense nearest neighbors)
  probe          train one linear layer of every pixel on frozen features
  knn            label whole images by the most similar training images

`tools/evaluate.py SUB-COMMAND --help` tells what each one takes. Results are printed as a table;
--out writes all of them, class by class, as JSON.
"""

import argparse
import os
import sys
from pathlib import Path

from argument_types import natural, positive, positive_real

EXAMPLES = """
networks (all but `unsupervised`; several of them are compared in one table):
  epoch_800.pth                  a checkpoint of ours or a published one: the teacher's encoder
  resnet50.pth, .pkl, …          an exported encoder, or torchvision's own weights
  random:resnet50                weights as training starts with
  supervised:resnet50            torchvision's ImageNet weights, downloaded once

examples:
  the unsupervised protocol of COCO-Stuff 27, from COCO's panoptic annotations:
    python tools/evaluate.py unsupervised epoch_800.pth --images coco/val2017 \\
        --labels annotations/panoptic_val2017.json --labels-format panoptic
  the same from COCO-Stuff's pixel maps, on a list of images, in 8 processes:
    torchrun --nproc-per-node 8 tools/evaluate.py unsupervised epoch_800.pth \\
        --images coco/val2017 --labels stuffthingmaps/val2017 --list curated.txt
  compare encoders on the same footing, a row each:
    python tools/evaluate.py overcluster random:resnet50 supervised:resnet50 epoch_800.pth \\
        --clusters 27 100 500 --images coco/val2017 --labels stuffthingmaps/val2017
  retrieval on VOC:
    python tools/evaluate.py retrieval epoch_800.pth --images VOC2012/JPEGImages \\
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
    one.add_argument("network", nargs=1, metavar="CHECKPOINT", help="a full checkpoint")
    one.add_argument("--part", choices=("teacher", "student"), default="teacher")
    _add_matching(one)
    _add_pixels(one, "coco-stuff", 320)

    one = commands.add_parser("overcluster", help="k-means clusters against classes")
    one.description = (
        "Features of all images, of unit length, are clustered by k-means; each pixel goes to "
        "the nearest center; clusters are matched to classes. The same for every encoder, so that "
        "encoders can be compared. Runs in several processes under torchrun."
    )
    _add_network(one)
    one.add_argument("--clusters", type=positive, nargs="+", default=[27, 100, 500], metavar="K")
    _add_number(one, "--directions", positive, 200_000, "features that are clustered, at most")
    _add_matching(one)
    _add_pixels(one, "coco-stuff", 320)
    _add_train(one, "to cluster", "the same images that are scored")

    one = commands.add_parser("retrieval", help="dense nearest neighbors")
    one.description = (
        "Cells of training images are remembered with their labels; a cell of another image "
        "gets the weighted labels of its nearest. Nothing is trained (Hummingbird, arXiv "
        "2306.01667)."
    )
    _add_network(one)
    _add_number(one, "--memory", positive, 100_000, "cells kept, at most")
    _add_search(one, 30, 0.02)
    _add_pixels(one, "voc", 512)
    _add_train(one, "to remember", "all of --train-images")

    one = commands.add_parser("probe", help="a linear layer of every pixel")
    one.description = (
        "Batch norm and one linear layer are trained on frozen features, without augmentation; "
        "features that fit into 4 GiB are computed once."
    )
    _add_network(one)
    _add_number(one, "--epochs", positive, 20, "of the training")
    _add_number(one, "--lr", positive_real, 0.1, "learning rate at the start")
    _add_pixels(one, "voc", 512)
    _add_train(one, "to train on", "all of --train-images")

    one = commands.add_parser("knn", help="whole images, in a folder a class")
    one.description = (
        "Features, averaged over each image, are compared; the nearest training images vote."
    )
    _add_network(one)
    one.add_argument("--train", type=Path, required=True, help="folder with a folder a class")
    one.add_argument("--images", type=Path, required=True, help="the same, to be classified")
    _add_number(one, "--size", positive, 224, "side of the square")
    _add_search(one, 20, 0.07)
    _add_common(one)
    return parser.parse_args(argv)


def _add_network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "network",
        nargs="+",
        metavar="NETWORK",
        help="checkpoints, exported encoders, random:resnet50 or supervised:resnet50",
    )
    parser.add_argument("--part", choices=("teacher", "student"), help="of a full checkpoint")
    parser.add_argument(
        "--stage", type=positive, help="1-4: whose map is taken (default: the last)"
    )
    parser.add_argument(
        "--projected", action="store_true", help="the projector's features, of a full checkpoint"
    )
    _add_number(parser, "--seed", natural, 0, "of all chance")


def _add_number(parser, name: str, kind, default: float, what: str) -> None:
    parser.add_argument(name, type=kind, default=default, help=f"{what} (%(default)s)")


def _add_matching(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--matching", nargs="+", choices=MATCHINGS, default=MATCHINGS, help="default: both"
    )


def _add_search(parser: argparse.ArgumentParser, count: int, temperature: float) -> None:
    _add_number(parser, "--neighbors", positive, count, "that vote")
    _add_number(parser, "--temperature", positive_real, temperature, "of the weights")
    parser.add_argument("--search", choices=("torch", "faiss"), default="torch", help="%(default)s")


def _add_pixels(parser: argparse.ArgumentParser, labels_format: str, size: int) -> None:
    parser.add_argument(
        "--images", required=True, metavar="PATH", help="a folder, a glob or a list file"
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
    parser.add_argument("--list", metavar="FILE", help="names of the images to score, one a line")
    _add_number(parser, "--size", positive, size, "side of the square")
    _add_common(parser)


def _add_train(parser: argparse.ArgumentParser, what: str, default: str) -> None:
    parser.add_argument(
        "--train-list", metavar="FILE", help=f"names of the images {what}; default: {default}"
    )
    parser.add_argument("--train-images", metavar="PATH", help="default: --images")
    parser.add_argument("--train-labels", metavar="PATH", help="default: --labels")


def _add_common(parser: argparse.ArgumentParser) -> None:
    _add_number(parser, "--batch-size", positive, 16, "images at a time")
    _add_number(parser, "--workers", natural, 0, "processes that read")
    parser.add_argument("--device", help="default: a GPU where there is one")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bars, no classes")


def open_network(source: str, args: argparse.Namespace):
    """One of the networks that the command line names."""
    from slotcon_plugin.errors import ConfigError
    from slotcon_plugin.evaluation.networks import Projected, open_encoder, open_groups

    if args.command == "unsupervised":
        return open_groups(source, args.part)
    if not args.projected:
        return open_encoder(source, args.part, args.stage, args.seed)
    if args.stage is not None:
        raise ConfigError("--stage chooses an encoder's map; --projected takes the projector's.")
    return Projected(open_groups(source, args.part or "teacher"))


def open_images(args: argparse.Namespace) -> tuple:
    """The images to learn from, None if there are none, and those to score."""
    from slotcon_plugin.errors import ConfigError
    from slotcon_plugin.evaluation.batches import check_apart
    from slotcon_plugin.evaluation.knn import ClassFolders
    from slotcon_plugin.evaluation.labeled_images import LabeledImages

    if args.command == "knn":
        train = ClassFolders(args.train, size=args.size)
        test = ClassFolders(args.images, train.classes, args.size)
        check_apart(train, test, "Name another folder with --train or --images.")
        return train, test
    test = LabeledImages(args.images, args.labels, args.labels_format, args.size, args.list)
    own = args.command != "unsupervised" and (
        args.train_list or args.train_images or args.train_labels
    )
    if not own:
        if args.command in ("retrieval", "probe"):
            raise ConfigError(
                f"{args.command} learns from other images than it scores: name them with "
                "--train-list, or with --train-images and --train-labels."
            )
        return None, test
    images, labels = args.train_images or args.images, args.train_labels or args.labels
    train = LabeledImages(images, labels, args.labels_format, args.size, args.train_list)
    if args.command != "overcluster":  # which does not see the labels
        check_apart(train, test, "Choose others with --list and --train-list.")
    return train, test


def score(network, train, test, reading, args: argparse.Namespace) -> dict:
    """What the sub-command finds of one network."""
    from slotcon_plugin.evaluation import knn, probe, retrieval
    from slotcon_plugin.evaluation import unsupervised_segmentation as segmentation
    from slotcon_plugin.evaluation.faiss_memory import SEARCHES

    if args.command == "unsupervised":
        size = len(network.prototypes_kd)
        return segmentation.unsupervised(network, size, test, args.matching, reading)
    if args.command == "overcluster":
        return segmentation.overcluster(
            network, test, args.clusters, args.matching, reading, train, args.directions, args.seed
        )
    if args.command == "retrieval":
        choices = args.neighbors, args.temperature, args.memory, SEARCHES[args.search], args.seed
        return retrieval.retrieve(network, train, test, reading, *choices)
    if args.command == "probe":
        return probe.probe(network, train, test, reading, args.epochs, args.lr, seed=args.seed)
    choices = args.neighbors, args.temperature, SEARCHES[args.search]
    return knn.classify(network, train, test, reading, *choices)


def evaluate(args: argparse.Namespace, device: str) -> None:
    """Run the sub-command, print and write what it found."""
    from slotcon_plugin.evaluation.batches import NoBar, Reading
    from slotcon_plugin.evaluation.evaluation_report import Run, show, write_results
    from slotcon_plugin.evaluation.progress import ProgressBar
    from slotcon_plugin.functional.collectives import rank

    reading = Reading(device, args.batch_size, args.workers, NoBar if args.quiet else ProgressBar)
    networks = [open_network(source, args) for source in args.network]
    train, test = open_images(args)
    runs = []
    for source, network in zip(args.network, networks, strict=True):
        results = score(network.to(device), train, test, reading, args)
        runs.append(Run(source, network.origin, results))
        network.cpu()
    if rank() != 0:
        return
    show(runs, train, test, args.size, classes=not args.quiet)
    if args.out:
        write_results(args.out, args.command, vars(args), runs, train, test)


def main(argv: list[str] | None = None) -> int:
    """Run; turn the user's errors into one message. Returns the exit status."""
    args = parse_args(argv)
    from slotcon_plugin.errors import SlotConError
    from slotcon_plugin.evaluation.batches import default_device
    from slotcon_plugin.runtime.launch import join_processes, leave_processes, processes

    try:
        number, count = processes("pytorch" if "WORLD_SIZE" in os.environ else "none")
        device = args.device or default_device()
        if count > 1:
            join_processes(number, count, device.partition(":")[0])
        evaluate(args, device)
    except SlotConError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        leave_processes()
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without installation too
    sys.exit(main())
