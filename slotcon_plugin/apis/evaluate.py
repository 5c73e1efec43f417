"""Evaluation of frozen networks on labeled images, without fine-tuning."""

import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from torch.utils.data import Dataset

from ..checkpoints.named_networks import last_of_work_dir
from ..errors import ConfigError
from ..evaluation.batches import LoaderOptions, choose_device
from ..evaluation.evaluation_report import Run, print_report, score_parts, write_json
from ..evaluation.kinds import FUNCTIONS, complete_options, open_images, open_network, own_options
from ..runtime.launch import announce, join_processes, leave_processes, processes
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
    overwrite: bool = False,
    **options,
) -> dict:
    """Score frozen networks, and print a table. docs/evaluation.md describes the protocols.

    Under torchrun, all processes share the images; knn and probe run in one process.

    Args:
        kind: "unsupervised" (prototypes against classes), "overcluster" (k-means clusters of
            features against classes), "retrieval" (dense nearest neighbors), "probe" (a linear
            layer of every pixel), "knn" (whole images by their nearest neighbors) or "rank" (RankMe
            and α-ReQ of features, without labels).
        networks: one or several checkpoints, work dirs (the last good checkpoint of each), exported
            encoders or torchvision's weights, "zoo:NAME", "random:resnet50" or
            "supervised:resnet50"; for "unsupervised" full checkpoints.
        images: the images to score: a folder, a glob or a list file; for knn a folder with a folder
            for each class.
        workers: loader processes, at most one for each core.
        device: where the networks run; None: a GPU if there is one.
        out: a JSON file for all results.
        quiet: no progress bars, and no table of the classes.
        overwrite: replace `out` if it is there; otherwise this is an error.
        options: those of the kind; `evaluation.kinds.OPTIONS` has the defaults.
            All but knn and rank: `labels` (required), `labels_format`, `list` (a file with the
            names of the images to score), `size` (side of the square, pixels).
            All but unsupervised: `part`, `stage`, `projected`, which select the features, and
            `output_stride`, which makes a ResNet's map finer; `seed`.
            unsupervised, overcluster: `matching`, names of `MATCHINGS`.
            overcluster: `clusters`, their numbers; `directions`, the most features to cluster.
            overcluster, retrieval, probe: `train_list`, `train_images`, `train_labels`, the images
            to cluster, to store or to train on; by default `images` and `labels`.
            retrieval: `memory`, the largest number of cells that are stored.
            retrieval, knn: `neighbors`, `temperature` of their weights.
            probe: `epochs`, `lr`.
            knn: `train` (required), a folder with a folder for each class; `size`.
            rank: `cells`, the most cells of feature maps; `size`.

    Returns:
        What `out` contains: `evaluation`, `options`, `data`, and `networks`, a list with `network`
        and `results` of each. Of one network, these two are also at the top. Scores are in percent.
    """
    is_one = isinstance(networks, str | Path) or not isinstance(networks, Iterable)
    sources = [networks] if is_one else list(networks)
    if wrong := [source for source in sources if not isinstance(source, str | Path)]:
        raise ConfigError(f"networks has {wrong[0]!r}, expected paths of checkpoints, or names.")
    launcher = "pytorch" if "WORLD_SIZE" in os.environ else "none"
    sources = [last_of_work_dir(source, partial(announce, launcher=launcher)) for source in sources]
    options, device = complete_options(kind, options), choose_device(device)
    loader = LoaderOptions(device, batch_size, workers, progress=not quiet)
    number, count = processes(launcher)
    if out is not None and number == 0:
        inputs = [*sources, images, *options.values()]
        check_writable(out, "--out", inputs=inputs, overwrite=overwrite)
    try:
        if count > 1:
            join_processes(number, count, device.partition(":")[0])
        opened = [open_network(kind, source, options) for source in sources]
        train, test = open_images(kind, images, options)
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
            networks=pairs,
            **(pairs[0] if len(pairs) == 1 else {}),  # as the benchmark reads it
        )
        if number == 0:
            print_report(runs, train, test, options["size"], classes=not quiet)
            if out is not None:
                write_json(Path(out), content)
        return content
    finally:
        leave_processes()


def _note_few_classes(results: dict, test: Dataset) -> None:
    """Labels of another format can be valid numbers, but of few classes."""
    scores = next(iter(score_parts(results).values()))
    found, known = scores.get("classes_in_labels"), len(test.classes)
    if found is not None and 4 * found < known:
        note = f"the labels have only {found} of the {known} classes: is --labels-format right?"
        results["note"] = f"{results['note']} Also, {note}" if "note" in results else note
