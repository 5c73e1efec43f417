"""One's own labeled images: a config's entries "auto" that follow from the data, by written rules.

N training images, B images in a step, T iterations. [voc], [coco] are the published trainings of
fcn_r50_voc12aug.py (N = 10,582, T = 30,000, B = 16) and mask_rcnn_r50_fpn_syncbn_1x_coco.py (N =
117,266, T = 90,000, B = 16); between them and smaller data nothing was searched.

- classes: segmentation: the lines of classes.txt, for the values 0, 1, …; without it one class for
  each value up to the largest in the maps, with the colors of their palette. Detection: the
  categories of the COCO file of the training images. The heads have as many outputs.
- B, total_batch_size: the power of two nearest to N / 10, in [4, 16].
- T: segmentation 30,000 sqrt(N / 10,582), detection 90,000 sqrt(N / 117,266), in [200, 90,000]; the
  learning rate falls to a tenth after 0.7 T and 0.9 T; five evaluations and checkpoints.
- learning rate: in proportion to B. For 16 images: detection 0.02, with a warm-up of a tenth of T,
  at most 1,000; segmentation 0.32 min(1, 300 / T), from a search on CamVid, [small] (N = 20, B = 4,
  T = 300: docs/results.md), which is 0.0032 for [voc]'s T, where 0.003 was published.
- size: segmentation: crops of the median short side, a multiple of 32 in [64, 512], of images that
  are resized by 0.5 to 2. Detection: a short side of 1.6 times the median, in [128, 800], as COCO's
  480 become 800, and down to 0.8 of that in training.
- dilation of the segmentation head: 6 for crops of 513 as in [voc], in proportion to their area, at
  least 1, as for [small]'s 224: with more, most of what a convolution reads in a small crop is its
  padding (docs/results.md).
- depth of the ResNet: that of the backbone's file; without a file 18.
- contract_dilation: whether a dilated stage's first block has the dilation of the stage before.
  That of the backbone's file, so that its features are computed if its strides and dilations are
  these, too; True, as in [voc], if nothing is dilated in the file, and without one.
- precise_bn: before each evaluation the statistics of batch norm are measured over a quarter as
  many batches as iterations were since the last one, at most 200: about a tenth of the time.
- poly2mask: True if an object of one's own COCO files, crowds aside, has a run-length encoded mask,
  which mmdet leaves out otherwise; False, as in [coco], if all are polygons.

No image may be in both splits.
"""

import math
import os
from collections import Counter
from collections.abc import Iterator
from statistics import median
from typing import Any

from mmengine.config import Config

from ..datasets.decode import UnreadableImage, read_unconverted
from ..datasets.sources import IMAGE_SUFFIXES, walk_files
from ..errors import ConfigError, DataError
from ..evaluation.batches import in_both
from ..evaluation.index_maps import read_index_map, sample, upright_size, values_in
from ..runtime.recipe_rules import AUTO
from ..runtime.regular_files import read_text_file
from .data_layout import require_files, require_paths
from .fill_backbone import NAMED, UNNAMED
from .listed_coco import LISTED, read_coco
from .object_masks import has_run_lengths
from .resnet_facts import ResNetFacts, facts_of_file
from .segmentation_maps import IGNORED

SECONDS = 60  # to look at label maps
SIZES = 200  # images whose sizes are looked at
CHANNELS = {18: (64, 128, 256, 512), 50: (256, 512, 1024, 2048)}
PUBLISHED = dict(seg=(30_000, 10_582), det=(90_000, 117_266))  # T and N


def is_own(cfg: Config) -> bool:
    """Whether a config's data are given as a folder, `own_data`."""
    return isinstance(cfg.get("own_data"), dict)


def follow_data(
    cfg: Config, backbone: str | None = None, known: ResNetFacts | None = None
) -> list[str]:
    """Replace the entries "auto" of a config with `own_data` by what follows from the data.

    Args:
        cfg: is changed.
        backbone: the source of the backbone's weights.
        known: of the weights that the training resumes or loads; they go before `backbone`.

    Returns lines that say what was derived. A DataError says what is missing in the folder.
    """
    if not is_own(cfg):
        return []
    is_det = "roi_head" in cfg.model
    own_data = {key: str(value) for key, value in cfg.own_data.items()}  # a folder can be 2017
    splits = {name: _split(own_data, own_data[name], is_det) for name in ("train", "val")}
    _check_disjoint(splits, own_data)
    names, palette, words = (_categories if is_det else _classes)(splits, own_data)
    images = splits["train"]["images"]
    sides = sample(lambda i: upright_size(images[i]), len(images), SIZES, SECONDS)
    side = median(min(size) for size in sides if size) if any(sides) else 512
    facts = _facts(cfg.model.backbone, backbone, known)
    batch = cfg.get("total_batch_size", AUTO)
    batch = _batch(len(images)) if batch == AUTO else batch
    iterations = _iterations(len(images), "det" if is_det else "seg")
    length = cfg.train_cfg.get("max_iters", AUTO)
    length = iterations if length == AUTO else length
    every = cfg.train_cfg.get("val_interval", AUTO)
    every = max(1, iterations // 5) if every == AUTO else every
    rate = 0.02 if is_det else 0.32 * min(1, 300 / length)
    channels = CHANNELS[18 if facts.depth < 50 else 50]
    crop = min(max(int(side) // 32 * 32, 64), 512)
    short = min(max(round(1.6 * side / 32) * 32, 128), 800)
    values = dict(
        num_classes=len(names),
        **facts._asdict(),
        in_channels=list(channels) if is_det else channels[-1],
        metainfo=dict(classes=tuple(names)) | (dict(palette=palette) if palette else {}),
        total_batch_size=batch,
        batch_size=batch,
        base_batch_size=batch,
        lr=rate * batch / 16,
        max_iters=iterations,
        val_interval=every,
        interval=max(1, iterations // 5),
        milestones=[int(0.7 * iterations), int(0.9 * iterations)],
        end=min(1000, iterations // 10),
        iterations=min(200, max(1, min(every, length) // 4)),
        dilation=max(1, round(6 * (crop / 513) ** 2)),
        size=(crop, crop),
        crop_size=(crop, crop),
        scale=(5 * short // 3, short) if is_det else (4 * int(side), int(side)),
        scales=[(5 * short // 3, int(short * part)) for part in (0.8, 0.9, 1)],
        poly2mask=any(has_run_lengths(split.get("content", {})) for split in splits.values()),
    )
    for name in ("train", "val", "test"):
        split = splits["train" if name == "train" else "val"]
        keys = "ann_file", "backend_args", "data_prefix", "data_root", "img_suffix"
        own = {key: split[key] for key in (*keys, "seg_map_suffix") if key in split}
        _fill(cfg._cfg_dict.get(f"{name}_dataloader"), own)
        file = os.path.join(split["data_root"], split["ann_file"])  # of COCO, for mmdet's metric
        own = dict(ann_file=file, backend_args=split.get("backend_args"))
        _fill(cfg._cfg_dict.get(f"{name}_evaluator"), own)
    _fill(cfg._cfg_dict, values)
    cfg.pop("own_data")  # the config that the work dir gets has the values
    size = f"short side {short}" if is_det else f"crops of {crop}"
    masks = ", poly2mask=True for run-length encoded masks" * values["poly2mask"]
    return [
        f"data: {len(images)} images to train, {len(splits['val']['images'])} to evaluate, {words}",
        f"from them: batch {batch}, {iterations:,} iterations, {size}, ResNet-{facts.depth}"
        f"{masks}, unless the config or an option says otherwise",
    ]


def _fill(node: Any, values: dict[str, Any]) -> None:
    """Replace each entry "auto" by the value of its key, where there is one."""
    for key, part in node.items() if isinstance(node, dict) else ():
        if isinstance(part, str) and part == AUTO and key in values:
            node[key] = values[key]
        _fill(part, values)
    for part in node if isinstance(node, list | tuple) else ():
        _fill(part, values)


def _facts(configured: dict, backbone: str | None, known: ResNetFacts | None) -> ResNetFacts:
    """Those that are known, else those of the backbone's file; with the config's own depth."""
    if "depth" not in configured:
        raise ConfigError(
            "own_data: entries 'auto' follow from a ResNet, but model.backbone has no depth. Write "
            "a config without own_data for another encoder: docs/encoders.md."
        )
    is_file = backbone not in (None, "", UNNAMED, *NAMED)
    if known is None and is_file and AUTO in map(configured.get, ResNetFacts._fields):
        known = facts_of_file(backbone)
    known = known or ResNetFacts()
    return known if configured.depth == AUTO else known._replace(depth=configured.depth)


def _batch(images: int) -> int:
    return min(max(2 ** round(math.log2(max(images / 10, 1))), 4), 16)


def _iterations(images: int, task: str) -> int:
    length, published = PUBLISHED[task]
    return min(max(round(length * math.sqrt(images / published)), 200), 90_000)


def _split(own: dict, name: str, is_det: bool) -> dict[str, Any]:
    """Where the images and labels of a split are: a folder in images/ and labels/, or a list."""
    root, layout = own["root"], "own_det" if is_det else "own_seg"
    name = name.removesuffix(".json") if is_det else name
    require_paths([root, os.path.join(root, own["images"])], layout)
    folder = os.path.join(root, own["images"], name)
    part = name if os.path.isdir(folder) else ""
    found: dict[str, Any] = {"data_root": root, "ann_file": ""}
    images = os.path.join(own["images"], part)
    lists = [f for f in (name, f"{name}.txt") if os.path.isfile(os.path.join(root, f))]
    if is_det:
        candidates = [f"{own['labels']}/{name}.json", f"annotations/{name}.json", f"{name}.json"]
        candidates += [f"annotations/instances_{name}.json", own["labels"]]
        files = [one for one in candidates if os.path.isfile(os.path.join(root, one))]
        if not files and lists:
            raise DataError(
                f"{os.path.join(root, lists[0])} is a list of images, which selects from one COCO "
                f"file, but own_data.labels={own['labels']} is none in {root}. Name the file, such "
                "as own_data.labels=instances.json."
            )
        if not files:
            require_paths([os.path.join(root, candidates[0])], layout)
        selected = os.path.join(root, lists[0]) if lists and files[0] == own["labels"] else None
        found["backend_args"] = selected and dict(backend=LISTED, names=selected)
        content = read_coco(os.path.join(root, files[0]), selected)
        rows = [row["file_name"] for row in content["images"]]
        found |= dict(ann_file=files[0], data_prefix=dict(img=f"{images.rstrip('/')}/"))
        found |= dict(images=[os.path.join(root, images, row) for row in rows], content=content)
        return found
    labels = os.path.join(own["labels"], part)
    if not part and not lists:
        require_paths([f"{folder}/, or the list {os.path.join(root, name)}.txt"], layout)
    require_paths([os.path.join(root, labels)], layout)
    suffix = _suffix(os.path.join(root, images), "img_suffix")
    seg_suffix = _suffix(os.path.join(root, labels), "seg_map_suffix")
    if part:
        files = sorted(_files(os.path.join(root, images)))
        stems = [file.removesuffix(suffix) for file in files if file.endswith(suffix)]
    else:
        found["ann_file"] = lists[0]
        lines = read_text_file(os.path.join(root, lists[0])).splitlines()
        stems = [line.strip() for line in lines]  # as mmseg reads it
    found |= dict(data_prefix=dict(img_path=images, seg_map_path=labels))
    found |= dict(img_suffix=suffix, seg_map_suffix=seg_suffix)
    found["images"] = [os.path.join(root, images, stem + suffix) for stem in stems]
    found["maps"] = [os.path.join(root, labels, stem + seg_suffix) for stem in stems]
    if not stems:
        raise DataError(f"{os.path.join(root, found['ann_file'])} names no image.")
    require_files([*found["images"], *found["maps"]], layout)
    return found


def _files(folder: str) -> Iterator[str]:
    """The paths of all files in a folder, relative to it."""
    return (os.path.relpath(path, folder) for path in walk_files(folder))


def _suffix(folder: str, entry: str) -> str:
    """The suffix of the images in a folder; mmseg's datasets read images of one suffix."""
    suffixes = Counter(os.path.splitext(file)[1] for file in _files(folder))
    known = {s: n for s, n in suffixes.items() if s.lower() in IMAGE_SUFFIXES}
    if len(known) != 1:
        found = ", ".join(f"{n} {s}" for s, n in sorted(known.items())) or "no image"
        raise DataError(
            f"{folder} has {found}, expected images with one suffix. Convert them to one, or set "
            f"{entry} of the config's datasets."
        )
    return next(iter(known))


def _classes(splits: dict[str, dict], own: dict) -> tuple[list[str], list | None, str]:
    """Names and colors of the classes in label maps, and how they were found."""
    file = os.path.join(own["root"], own["classes"])
    maps = [path for split in splits.values() for path in split["maps"]]
    if os.path.isfile(file):
        names = [line.strip() for line in read_text_file(file).splitlines() if line.strip()]
        if len(set(names)) != len(names) or not names:
            raise DataError(f"{file}: expected one name on each line, each once.")
        return names, _palette(maps[0], len(names)), f"{len(names)} classes of {file}"
    found = sample(lambda i: values_in(read_index_map(maps[i])), len(maps), len(maps), SECONDS)
    used = set.union(*found) - {IGNORED}
    count = max(used, default=0) + 1
    names = [f"class_{number}" for number in range(count)]
    seen = f"{len(found)} of the {len(maps)} " * (len(found) < len(maps))
    unused = f", of which {count - len(used)} do not occur," * (len(used) < count)
    words = f"{count} classes, the values 0 to {count - 1} of {seen or 'the '}maps{unused} without "
    words += f"names ({file} would give them)"
    return names, _palette(maps[0], count), words


def _palette(path: str, count: int) -> list | None:
    try:
        image = read_unconverted(path)
    except UnreadableImage:  # who reads the map explains it
        return None
    colors = image.getpalette() if image.mode == "P" else None
    if not colors or len(colors) < 3 * count:
        return None
    return [colors[3 * number : 3 * number + 3] for number in range(count)]


def _categories(splits: dict[str, dict], own: dict) -> tuple[list[str], None, str]:
    """Names of the categories of a COCO file, in its order, in which mmdet numbers them."""
    split = splits["train"]
    names = [row["name"] for row in split["content"]["categories"]]
    return names, None, f"{len(names)} categories of {split['ann_file']}"


def _check_disjoint(splits: dict[str, dict], own: dict) -> None:
    """Check that no image is trained on and evaluated."""
    train, val = (splits[name]["images"] for name in ("train", "val"))
    if shared := in_both(train, val):
        names = [
            f"own_data.{name}={own[name]} ({splits[name]['ann_file'] or 'folder'})"
            for name in splits
        ]
        raise DataError(
            f"{' and '.join(names)} have {len(shared)} images in common, of {len(train)} to train "
            f"and {len(val)} to evaluate (first: {min(shared)}): scores of images that were "
            "trained on say nothing about new ones. Name other folders, lists or COCO files."
        )
