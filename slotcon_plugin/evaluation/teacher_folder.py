"""Folders with the whole teacher of a pretraining, as those in `zoo/`.

`model.safetensors` has the teacher's tensors under the names of a checkpoint of this package, and
in its header what is read of a checkpoint's `meta`. So every reader of checkpoints reads it.
"""

from pathlib import Path
from string import Template
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor

from ..checkpoints.configured import LOADING
from ..checkpoints.containers import STORED, digest, safetensors_bytes
from ..checkpoints.file_kinds import find_tensors
from ..checkpoints.metadata import CONFIG_PATHS, MEASURED, describe_training, lookup, read_config
from ..checkpoints.named_networks import FOLDER_WEIGHTS, MARK, ZOO
from ..checkpoints.published import to_ours
from ..errors import CheckpointError
from ..runtime.scalars import log_lines
from ..runtime.text_formats import markdown_cell
from ..runtime.work_dir import NOTE
from .group_weights import ENCODER_ALONE, levels_in
from .networks import PixelGroups, groups_in

TOLERANCE = 1e-3  # of the largest feature, and of a cosine
KEPT = (MEASURED, "epoch", "iter", "seed", "experiment_name")  # of a checkpoint's meta
CARD = """# $name

$about

```python
import slotcon_plugin

model = slotcon_plugin.load("$source")
model.groups("image.jpg")    # the prototype of each pixel, scores, slots
model.features("image.jpg")  # the encoder's map, and its mean
```

Teacher of a pretraining without labels with `slotcon_plugin`: encoder, projector and prototypes.

| | |
|---|---|
$rows

```python
$config
```
"""


def teacher_files(content: dict, source: str, folder: Path) -> tuple[dict[str, bytes], str]:
    """`model.safetensors`, `README.md` and, of a work dir's checkpoint, `log.jsonl` by name, and a
    report.

    Matrices are stored in float16 if features and scores of noise then differ by at most TOLERANCE,
    otherwise in float32.

    Args:
        content: of a full checkpoint, ours or a published one.
        source: its path, for messages.
        folder: where the files will be written.
    """
    tensors, kind = find_tensors(content, source, known=True)
    training = describe_training(content)
    if kind == "published":
        content = to_ours(content, source).content
        tensors = content["state_dict"]
    teacher = {n: v.contiguous() for n, v in tensors.items() if n.startswith("teacher.")}
    if not (levels := levels_in(content, source)):
        raise CheckpointError(ENCODER_ALONE.format(source))
    config = _kept(read_config(content)).pretty_text.strip()
    known = content.get("meta") or {}
    known = {key: known[key] for key in KEPT if isinstance(known.get(key), int | str | dict)}
    meta = {"cfg": config, **known}
    networks = [groups_in(content, source, "teacher", level) for level in levels]
    for kept_as in (torch.float16, torch.float32):
        stored = {n: v.to(kept_as) if _is_matrix(v) else v for n, v in teacher.items()}
        again = {"state_dict": {n: v.float() if _is_matrix(v) else v for n, v in stored.items()}}
        again["meta"] = meta
        others = [groups_in(again, source, "teacher", level) for level in levels]
        error = max(map(_difference, networks, others))
        if error <= TOLERANCE:
            break
    else:
        raise CheckpointError(f"{source}: its teacher computes something else alone.")
    meta[STORED] = digest(stored)
    sizes = ", ".join(f"{len(one.prototypes_kd)}" for one in networks)
    about = f"{networks[0].origin.removeprefix(f'{source}, teacher, ')}, {sizes} prototypes"
    rows = dict(training, stored=str(kept_as).removeprefix("torch."), digest=meta[STORED])
    in_repository = folder.resolve().parent == ZOO.resolve()
    load_as = f"{MARK}{folder.name}" if in_repository else str(folder)
    card = Template(CARD).substitute(
        name=folder.name,
        about=about,
        source=load_as if in_repository else folder.name,
        rows="\n".join(f"| {name} | {markdown_cell(str(value))} |" for name, value in rows.items()),
        config=config,
    )
    files = {FOLDER_WEIGHTS: safetensors_bytes(stored, meta), "README.md": card.encode()}
    work_dir = Path(source).parent
    is_logged = (work_dir / NOTE).is_file() and type(meta.get("iter")) is int
    if is_logged and (lines := log_lines(work_dir, meta["iter"])):
        files["log.jsonl"] = lines.encode()
    report = {
        "source": source,
        "teacher": about,
        "tensors": f"{len(stored)}, matrices in {rows['stored']}; features and scores differ by at "
        f"most {error:.1e}, {TOLERANCE:g} is allowed",
        "training": ", ".join(f"{key} {value}" for key, value in training.items()),
        "digest": meta[STORED],
        "files": ", ".join(files),
        "load it with": f"slotcon_plugin.load({load_as!r})",
    }
    return files, "\n".join(f"{name + ':':15}{value}" for name, value in report.items())


def _is_matrix(value: Tensor) -> bool:
    return value.is_floating_point() and value.ndim > 1


def _kept(config: dict) -> Config:
    """The model, and what `describe_training` reads: no paths of this machine."""
    kept = Config({"model": _without_files(config.get("model") or {})})
    found = {path: lookup(config, path) for path in CONFIG_PATHS.values()}
    kept.merge_from_dict({path: value for path, value in found.items() if value is not None})
    return kept


def _without_files(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_files(v) for k, v in value.items() if k not in LOADING}
    return [*map(_without_files, value)] if isinstance(value, list | tuple) else value


@torch.no_grad()
def _difference(one: PixelGroups, other: PixelGroups) -> float:
    """The largest difference of scores, and of the encoder's features relative to the largest."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1, 3, 224, 224), generator=generator, dtype=torch.uint8)
    expected, found = (net.features.encode(images) for net in (one, other))
    features = (found - expected).abs().max() / expected.abs().max()
    return max(float(features), float((other(images) - one(images)).abs().max()))
