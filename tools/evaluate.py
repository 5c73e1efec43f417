"""Score frozen networks on labeled images, without fine-tuning.

  unsupervised   SlotCon's prototypes against classes: unsupervised semantic segmentation
  overcluster    k-means clusters of any encoder's features against classes
  retrieval      label pixels by the most similar training pixels (dense nearest neighbors)
  probe          train one linear layer of every pixel on frozen features
  knn            label whole images by the most similar training images
  rank           RankMe and alpha-ReQ of the features, without labels

`slotcon evaluate SUB-COMMAND --help` shows the options of each. Results are printed as a table;
--out writes all of them, with each class, as JSON.
"""

import argparse
import os
import sys

from command_line import (
    add_level,
    add_loading,
    add_number,
    add_overwrite,
    add_traceback,
    natural,
    new_parser,
    positive,
    positive_real,
    run_api,
)

EXAMPLES = """
networks (of all but `unsupervised`; several networks become the rows of one table):
  epoch_800.pth                  a checkpoint of ours or a published one: the teacher's encoder
  work_dirs/slotcon_r50_coco     a work dir: its last good checkpoint
  zoo:NAME                       a trained network of the package, see slotcon list
  resnet50.pth, .pkl, …          an exported encoder, or torchvision's weights
  random:resnet50                the initialization of a training
  supervised:resnet50            torchvision's ImageNet weights, downloaded once

examples:
  the unsupervised protocol of COCO-Stuff 27, with COCO's panoptic annotations:
    slotcon evaluate unsupervised epoch_800.pth --images coco/val2017 \\
        --labels annotations/panoptic_val2017.json --labels-format panoptic
  the same with COCO-Stuff's pixel maps, on a list of images, in 8 processes:
    torchrun --nproc-per-node 8 -m slotcon_plugin evaluate unsupervised epoch_800.pth \\
        --images coco/val2017 --labels stuffthingmaps/val2017 --list curated.txt
  compare encoders by the same method:
    slotcon evaluate overcluster random:resnet50 supervised:resnet50 epoch_800.pth \\
        --clusters 27 100 500 --images coco/val2017 --labels stuffthingmaps/val2017
  retrieval on VOC:
    slotcon evaluate retrieval epoch_800.pth --images VOC2012/JPEGImages \\
        --labels VOC2012/SegmentationClass --labels-format voc \\
        --train-list VOC2012/ImageSets/Segmentation/train.txt \\
        --list VOC2012/ImageSets/Segmentation/val.txt
"""
MATCHINGS = ("one-to-one", "many-to-one")
PARTS = ("teacher", "student")
IMAGES = "a folder, a glob, a list file, an archive or a data set"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__, EXAMPLES)
    commands = parser.add_subparsers(dest="kind", required=True, metavar="SUB-COMMAND")

    one = commands.add_parser("unsupervised", help="prototypes against classes")
    one.description = (
        "Each pixel is assigned to the prototype with the largest cosine, and prototypes are "
        "matched to classes over the whole dataset. One-to-one matching (Hungarian) is the "
        "protocol and needs as many prototypes as classes: pixels of unmatched prototypes are "
        "errors. Many-to-one matching gives each prototype its majority class; its scores grow "
        "with the number of prototypes."
    )
    one.add_argument(
        "networks",
        nargs=1,
        metavar="CHECKPOINT",
        help="a full checkpoint, a work dir, zoo:NAME or random:CONFIG",
    )
    one.add_argument("--part", choices=PARTS, default="teacher", help="default: teacher")
    add_level(one, "0")
    add_number(one, "--seed", natural, 0, "of the weights of random:CONFIG")
    _add_matching(one)
    _add_pixels(one, "coco-stuff", 320)

    one = commands.add_parser("overcluster", help="k-means clusters against classes")
    one.description = (
        "The features of all images, of unit length, are clustered by k-means; each pixel is "
        "assigned to the nearest center, and clusters are matched to classes. It is the same for "
        "every encoder, so that encoders can be compared. Runs in several processes with torchrun."
    )
    _add_networks(one)
    counts = dict(type=positive, nargs="+", default=(27, 100, 500), metavar="K")
    one.add_argument("--clusters", **counts, help="default: 27 100 500")
    add_number(one, "--directions", positive, 200_000, "largest number of features to cluster")
    _add_matching(one)
    _add_pixels(one, "coco-stuff", 320)
    _add_train(one, "to cluster", "the images that are scored")

    one = commands.add_parser("retrieval", help="dense nearest neighbors")
    one.description = (
        "Cells of the feature maps of training images are stored with their labels; a cell of "
        "another image gets the weighted labels of its nearest neighbors. Nothing is trained "
        "(Hummingbird, arXiv 2306.01667). Runs in several processes with torchrun."
    )
    _add_networks(one)
    add_number(one, "--memory", positive, 100_000, "largest number of cells that are stored")
    _add_neighbors(one, 30, 0.02)
    _add_pixels(one, "voc", 512)
    _add_train(one, "to store", "all of --train-images")

    one = commands.add_parser("probe", help="a linear layer of every pixel")
    one.description = (
        "Batch norm and one linear layer are trained on frozen features, without augmentation. "
        "Features that fit into 4 GiB are computed once."
    )
    _add_networks(one)
    add_number(one, "--epochs", positive, 20, "length of the training")
    add_number(one, "--lr", positive_real, 0.1, "initial learning rate")
    _add_pixels(one, "voc", 512)
    _add_train(one, "to train on", "all of --train-images")

    one = commands.add_parser("knn", help="whole images, in a folder for each class")
    one.description = (
        "Features are averaged over each image; the most similar training images vote for a class."
    )
    _add_networks(one)
    folder = dict(required=True, metavar="FOLDER")
    one.add_argument("--train", **folder, help="training images, a folder for each class")
    one.add_argument("--images", **folder, help="images to classify, alike")
    add_number(one, "--size", positive, 224, "side of the square, pixels")
    _add_neighbors(one, 20, 0.07)
    _add_common(one)

    one = commands.add_parser("rank", help="spectrum of the features, without labels")
    one.description = (
        "RankMe (Garrido et al., 2023) is a smooth rank of the features of all cells, from 1 to "
        "the number of channels; alpha-ReQ (Agrawal et al., 2022) the decay of their variances. "
        "Compare networks of one architecture on the same images. Runs in several processes with "
        "torchrun."
    )
    _add_networks(one)
    add_number(one, "--cells", positive, 50_000, "largest number of cells of the feature maps")
    one.add_argument("--images", required=True, metavar="PATH", help=IMAGES)
    add_number(one, "--size", positive, 320, "side of the square, pixels")
    _add_common(one)
    return parser.parse_args(argv)


def _add_networks(parser: argparse.ArgumentParser) -> None:
    text = "checkpoints, work dirs, zoo:NAME, exported encoders, random:CONFIG (a pretraining's "
    text += "network, untrained), random:resnet50 or supervised:resnet50"
    parser.add_argument("networks", nargs="+", metavar="NETWORK", help=text)
    parser.add_argument("--part", choices=PARTS, help="of a full checkpoint (teacher)")
    text = "1-4: the stage whose map is used (default: the last)"
    parser.add_argument("--stage", type=positive, help=text)
    text = "of a ResNet: strides become dilations, so that maps are finer (default: its own)"
    parser.add_argument("--output-stride", type=positive, metavar="N", help=text)
    add_level(parser, "encoder")
    text = "the projector's features, of a full checkpoint"
    parser.add_argument("--projected", action="store_true", help=text)
    add_number(parser, "--seed", natural, 0, "of all random numbers")


def _add_matching(parser: argparse.ArgumentParser) -> None:
    choice = dict(nargs="+", choices=MATCHINGS, default=MATCHINGS)
    parser.add_argument("--matching", **choice, help="default: both")


def _add_neighbors(parser: argparse.ArgumentParser, count: int, temperature: float) -> None:
    add_number(parser, "--neighbors", positive, count, "how many neighbors vote")
    add_number(parser, "--temperature", positive_real, temperature, "of the neighbors' weights")


def _add_pixels(parser: argparse.ArgumentParser, labels_format: str, size: int) -> None:
    path = dict(required=True, metavar="PATH")
    parser.add_argument("--images", **path, help=IMAGES)
    parser.add_argument("--labels", **path, help="a folder of PNG maps, or a panoptic JSON file")
    text = "coco-stuff, panoptic, voc, ade20k; index:N or index:FILE: values are numbers of N "
    text += "classes, or of those that the text file names, from 0 on (%(default)s)"
    formats = dict(default=labels_format, metavar="FORMAT")
    parser.add_argument("--labels-format", **formats, help=text)
    parser.add_argument("--list", metavar="FILE", help="names of the images to score, one per line")
    add_number(parser, "--size", positive, size, "side of the square, pixels")
    _add_common(parser)


def _add_train(parser: argparse.ArgumentParser, purpose: str, default: str) -> None:
    text = f"names of the images {purpose}; default: {default}"
    parser.add_argument("--train-list", metavar="FILE", help=text)
    parser.add_argument("--train-images", metavar="PATH", help="default: --images")
    parser.add_argument("--train-labels", metavar="PATH", help="default: --labels")


def _add_common(parser: argparse.ArgumentParser) -> None:
    add_traceback(parser)
    add_number(parser, "--batch-size", positive, 16, "images per batch")
    parser.add_argument("--out", metavar="FILE", help="write all results as JSON")
    add_overwrite(parser)
    add_loading(parser, "no progress bars, no table of classes")


if __name__ == "__main__":
    launcher = "pytorch" if "WORLD_SIZE" in os.environ else "none"
    sys.exit(run_api("evaluate", parse_args(), launcher))
