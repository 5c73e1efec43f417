"""Evaluation of frozen networks on labeled images, without fine-tuning."""

import os
from collections.abc import Sequence
from pathlib import Path

from torch import nn
from torch.utils.data import Dataset

from ..errors import ConfigError
from ..evaluation.batches import LoaderOptions, check_disjoint, choose_device
from ..evaluation.evaluation_report import Run, print_report, score_parts, write_json
from ..evaluation.kinds import FUNCTIONS, OPTIONS, TRAIN, own_options
from ..evaluation.knn import ClassFolders
from ..evaluation.labeled_images import LabeledImages
from ..evaluation.networks import open_encoder, open_groups
from ..runtime.config_rules import check_value, whole
from ..runtime.launch import join_processes, leave_processes, processes
from ..runtime.work_dir import check_writable


def evaluate(
    kind: str,
    networks: str | Path | Sequence[str | Path],
    images: str | Path,
    batch_size: int = 16,
    workers: int = 0,
    device: str | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
    **options,
) -> dict:
    """Score frozen networks, and print a table. docs/evaluation.md describes the protocols.

    Under torchrun, all processes share the images; knn and probe run in one process.

    Args:
        kind: "unsupervised" (prototypes against classes), "overcluster" (k-means clusters of
            features against classes), "retrieval" (dense nearest neighbors), "probe" (a linear
            layer of every pixel) or "knn" (whole images by their nearest neighbors).
        networks: one or several checkpoints, exported encoders or torchvision's weights,
            "random:resnet50" or "supervised:resnet50"; for "unsupervised" full checkpoints.
        images: the images to score: a folder, a glob or a list file; for knn a folder with a folder
            for each class.
        workers: loader processes, at most one for each core.
        device: where the networks run; None: a GPU if there is one.
        out: a JSON file for all results.
        quiet: no progress bars, and no table of the classes.
        options: those of the kind; `OPTIONS` has the defaults.
            All but knn: `labels` (required), `labels_format`, `list` (a file with the names of the
            images to score), `size` (side of the square, pixels).
            All but unsupervised: `part`, `stage`, `projected`, which select the features; `seed`.
            unsupervised, overcluster: `matching`, names of `MATCHINGS`.
            overcluster: `clusters`, their numbers; `directions`, the most features to cluster.
            overcluster, retrieval, probe: `train_list`, `train_images`, `train_labels`, the images
            to cluster, to store or to train on; by default `images` and `labels`.
            retrieval: `memory`, the largest number of cells that are stored.
            retrieval, knn: `neighbors`, `temperature` of their weights.
            probe: `epochs`, `lr`.
            knn: `train` (required), a folder with a folder for each class; `size`.

    Returns:
        What `out` contains: `evaluation`, `options`, `data`, and `network` and `results`, or for
        several networks a list of such pairs, `networks`. Scores are in percent.
    """
    sources = [networks] if isinstance(networks, str | Path) else networks
    sources = [str(source) for source in sources]
    options, device = _complete(kind, options), choose_device(device)
    loader = LoaderOptions(device, batch_size, workers, progress=not quiet)
    number, count = processes("pytorch" if "WORLD_SIZE" in os.environ else "none")
    if out is not None and number == 0:
        check_writable(out, "--out", inputs=[*sources, images, *options.values()])
    try:
        if count > 1:
            join_processes(number, count, device.partition(":")[0])
        opened = [_open_network(kind, source, options) for source in sources]
        train, test = _open_images(kind, images, options)
        own, runs = {name: options[name] for name in own_options(kind)}, []
        for source, network in zip(sources, opened, strict=True):
            results = FUNCTIONS[kind](network.to(device), train, test, loader, **own)
            _note_few_classes(results, test)
            runs.append(Run(source, network.origin, results))
            network.cpu()
        used = dict(networks=sources, images=images, batch_size=batch_size, device=device) | options
        pairs = [dict(network=run.origin, results=run.results) for run in runs]
        content = dict(
            evaluation=kind,
            options={k: str(v) if isinstance(v, Path) else v for k, v in used.items()},
            data={
                name: dict(images=len(dataset), selection=dataset.selection, source=dataset.source)
                for name, dataset in (("test", test), ("train", train))
                if dataset is not None
            },
            **(pairs[0] if len(pairs) == 1 else dict(networks=pairs)),
        )
        if number == 0:
            print_report(runs, train, test, options["size"], classes=not quiet)
            if out is not None:
                write_json(Path(out), content)
        return content
    finally:
        leave_processes()


def _complete(kind: str, options: dict) -> dict:
    """The options with the defaults of the kind."""
    if kind not in OPTIONS:
        raise ConfigError(f"kind is {kind!r}, expected one of {', '.join(OPTIONS)}.")
    defaults = OPTIONS[kind]
    if unknown := options.keys() - defaults.keys():
        raise ConfigError(
            f"{kind} has no option {sorted(unknown)[0]!r}; it has {', '.join(sorted(defaults))}."
        )
    options = defaults | options
    required = "train" if kind == "knn" else "labels"
    if options[required] is None:
        raise ConfigError(f"{kind} needs the option {required!r}.")
    # A smaller image has no cell at stride 32; a square of the largest has 268 megapixels.
    check_value("--size", options["size"], whole(32, 2**14))
    return options


def _open_network(kind: str, source: str, options: dict) -> nn.Module:
    part = options["part"]
    if kind == "unsupervised":
        return open_groups(source, part)
    if not options["projected"]:
        return open_encoder(source, part, options["stage"], options["seed"])
    if options["stage"] is not None:
        raise ConfigError("--stage selects an encoder's map, --projected the projector's: use one.")
    return open_groups(source, part or "teacher").features


def _open_images(kind: str, images: str | Path, options: dict) -> tuple[Dataset | None, Dataset]:
    """The images to learn from, None if there are none, and those to score."""
    size = options["size"]
    if kind == "knn":
        train = ClassFolders(options["train"], size=size)
        test = ClassFolders(images, train.classes, size)
        check_disjoint(train, test, "Give another folder with --train or --images.")
        return train, test
    labels, labels_format = options["labels"], options["labels_format"]
    test = LabeledImages(images, labels, labels_format, size, options["list"])
    if not any(options.get(name) for name in TRAIN):
        if kind in ("retrieval", "probe"):
            raise ConfigError(
                f"{kind} learns from other images than it scores: give --train-list, or "
                "--train-images and --train-labels."
            )
        return None, test
    images, labels = options["train_images"] or images, options["train_labels"] or labels
    train = LabeledImages(images, labels, labels_format, size, options["train_list"])
    if kind != "overcluster":  # which does not use the labels
        check_disjoint(train, test, "Give others with --list and --train-list.")
    return train, test


def _note_few_classes(results: dict, test: Dataset) -> None:
    """Labels of another format can be valid numbers, but of few classes."""
    scores = next(iter(score_parts(results).values()))
    found, known = scores.get("classes_in_labels"), len(test.classes)
    if found is not None and 4 * found < known:
        note = f"the labels have only {found} of the {known} classes: is --labels-format right?"
        results["note"] = f"{results['note']} Also, {note}" if "note" in results else note
