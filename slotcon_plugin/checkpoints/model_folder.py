"""Model folders: what `timm.create_model("local-dir:…")` loads, and the Hugging Face Hub shows."""

import re
import tempfile
from pathlib import Path
from string import Template
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError
from ..models.timm_encoder import accepted_options, create, with_any_size
from ..runtime.extras import import_extra
from ..runtime.text_formats import markdown_cell, markdown_text
from .architecture import Architecture, ResNetArchitecture
from .containers import FOLDER_WEIGHTS, safetensors_bytes
from .encoder import Encoder
from .fill import fill

CARD = "README.md"
TOLERANCE = 1e-5  # of the largest feature
# What stays true of timm's description of its own weights.
ABOUT_THE_CLASS = (
    *("architecture", "input_size", "fixed_input_size", "interpolation", "crop_pct", "crop_mode"),
    *("pool_size", "first_conv", "classifier"),
)
CARD_TEXT = Path(__file__).parent / "templates" / "model_card.md"
PAPER = "https://arxiv.org/abs/2205.15288"
# timm's output_stride that gives these strides and dilations, with contract_dilation.
OUTPUT_STRIDES = {((1, 2, 2, 1), (1, 1, 1, 2)): 16, ((1, 2, 1, 1), (1, 1, 2, 4)): 8}
DATASETS = {"imagenet": ["ILSVRC/imagenet-1k"]}  # preset -> data sets that the Hub has


@torch.no_grad()
def timm_files(encoder: Encoder) -> dict[str, bytes]:
    """`config.json` and `model.safetensors`, as timm writes them, by name.

    timm reads them again, and its last map is compared with the encoder's.

    Raises:
        CheckpointError: timm does not have this encoder, is missing or too old, or computes
            something else.
    """
    architecture = encoder.architecture
    name, options = folder_model(architecture)
    net = create(name, **options)
    net.load_state_dict(encoder.state_dict, strict=False)
    pixels = encoder.meta["pixels"]
    known = {key: net.pretrained_cfg[key] for key in ABOUT_THE_CLASS if key in net.pretrained_cfg}
    net.pretrained_cfg = known | dict(
        num_classes=0, mean=pixels["mean_0_1"], std=pixels["std_0_1"], tag="slotcon"
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            from timm import create_model
            from timm.models import save_for_hf

            save_for_hf(net, folder, model_args=options, safe_serialization=True)
            weights = Path(folder, FOLDER_WEIGHTS)
            weights.write_bytes(safetensors_bytes(net.state_dict(), encoder.meta))
            again = create_model(f"local-dir:{folder}", pretrained=True).eval()
        except Exception as error:  # of any model, or of an old timm
            raise CheckpointError(
                f"timm cannot write and read a folder of {architecture}: {error} (timm 1.0.16 or "
                "later is needed). Name a file, such as encoder.safetensors, instead of a folder."
            ) from error
        _compare(again, encoder)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def folder_model(architecture: Architecture) -> tuple[str, dict[str, Any]]:
    """Name and options of timm's model in a folder.

    Raises:
        CheckpointError: timm has no model that computes the same with these weights alone.
    """
    if reason := architecture.refusal("timm"):
        raise CheckpointError(reason)
    if isinstance(architecture, ResNetArchitecture):
        name, options = f"resnet{architecture.depth}", dict(num_classes=0)
        if architecture.is_plain:
            return name, options
        stages = architecture.strides, architecture.dilations
        has_bottlenecks = architecture.depth >= 50  # in other blocks timm dilates both convolutions
        if architecture.contract_dilation and has_bottlenecks and stages in OUTPUT_STRIDES:
            return name, options | dict(output_stride=OUTPUT_STRIDES[stages])
        raise CheckpointError(
            f"This encoder is a {architecture}; timm's {name} dilates other convolutions and would "
            "compute other features. Export it --to onnx, --to zoo (of SlotCon, the whole "
            "teacher), or --to openmmlab as a .pth file."
        )
    options = {n: v for n, v in architecture.config.items() if n not in ("type", "out_indices")}
    name = options.pop("name")
    options = with_any_size(name, options | dict(num_classes=0))
    if "fc_norm" in accepted_options(name, options):
        # The pooled vector is the mean of the map. No loss has trained the class token's output.
        options |= dict(global_pool="avg", fc_norm=False)
    with torch.device("meta"):
        added = create(name, **options).state_dict()
    own = architecture.shapes()  # norms start with 1 and 0
    if random := [n for n, value in added.items() if n not in own and value.ndim > 1]:
        raise CheckpointError(
            f"timm's {name} has layers after this encoder's last map, and they would stay random: "
            f"{', '.join(random[:3])}. Name a file, such as encoder.safetensors, instead of a "
            "folder: it has the encoder's tensors alone."
        )
    return name, options


def _compare(net: nn.Module, encoder: Encoder) -> None:
    """Raise CheckpointError if timm's last map of noise is not the encoder's."""
    own = encoder.architecture.build()
    fill(own, encoder)
    own.eval()
    images = torch.randn(1, *net.pretrained_cfg["input_size"])
    images = images.normal_(generator=torch.Generator().manual_seed(0))
    found = net.forward_intermediates(images, norm=True, intermediates_only=True)[-1]
    expected = own(images)[-1]
    if not _are_close(found, expected):
        raise CheckpointError(
            f"{encoder.source}: timm's last map differs from that of {encoder.architecture} by "
            f"more than {TOLERANCE} of the largest feature, so no folder was written."
        )


def _are_close(found: Tensor, expected: Tensor) -> bool:
    atol = TOLERANCE * float(expected.abs().max())
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=0, atol=atol)


def model_card(encoder: Encoder, name: str, license: str) -> bytes:
    """`README.md` of a folder with the files of `timm_files`, as the Hugging Face Hub reads it.

    Args:
        encoder: of the folder.
        name: the title.
        license: the Hub's identifier of a license, such as "apache-2.0".

    Raises:
        ConfigError: huggingface_hub is missing, or the license is no identifier.
    """
    hub = import_extra("huggingface_hub", "hub", "--to hub")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", license):
        raise ConfigError(
            f"--license {license!r}: expected an identifier of the Hugging Face Hub in lower case, "
            "such as apache-2.0, mit, cc-by-nc-4.0 or other."
        )
    if encoder.meta["origin"]["part"] not in ("teacher", "student"):
        raise CheckpointError(
            f"{encoder.source} does not say how it was trained, which a model card must: give a "
            "checkpoint of a pretraining, or a file that was exported from one."
        )
    training = {"images": "not stated", **encoder.meta["training"]}
    method = training["method"]
    front = hub.ModelCardData(
        license=license,
        library_name="timm",
        pipeline_tag="image-feature-extraction",
        tags=["slotcon", "self-supervised-learning", "dense-prediction"],
        datasets=DATASETS.get(training["images"]),
    )
    architecture, pixels = encoder.architecture, encoder.meta["pixels"]
    rows = dict(mean=pixels["mean_0_1"], std=pixels["std_0_1"], digest=encoder.meta["digest"])
    rows = {**training, **rows, **encoder.meta["versions"]}
    text = Template(CARD_TEXT.read_text(encoding="utf-8")).substitute(
        front=front.to_yaml(),
        name=markdown_text(name),
        encoder=markdown_cell(str(architecture)),
        method=markdown_cell(method),
        paper=PAPER,
        part=encoder.meta["origin"]["part"],
        torchvision=_torchvision_lines(architecture, pixels),
        openmmlab=architecture.usage("openmmlab", "encoder.pth", "", pixels),
        rows="\n".join(f"| {n} | {markdown_cell(str(value))} |" for n, value in rows.items()),
    )
    return text.encode()


def _torchvision_lines(architecture: Architecture, pixels: dict) -> str:
    """How torchvision loads a ResNet of a folder; "" for others, and if it is dilated."""
    if not isinstance(architecture, ResNetArchitecture) or not architecture.is_plain:
        return ""
    file = f"safetensors.torch.load_file('FOLDER/{FOLDER_WEIGHTS}')"
    lines = architecture.usage("torchvision", "", file, pixels).replace("; ", "\n")
    return f"\nIn torchvision:\n\n```python\n{lines}\n```\n"
