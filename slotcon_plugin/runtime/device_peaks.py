"""The peak arithmetic of known GPUs, against which a training's use of its device is measured."""

import re

# TFLOP/s: float16 and bfloat16 with float32 sums, then float32, with TF32 where the GPU has it; of
# dense matrices, without NVIDIA's sparsity. From NVIDIA's data sheets of each product; V100 and T4
# have no bfloat16 units and no TF32. A name is looked for as a whole word, the first that is found
# counts. Consumer GPUs: NVIDIA's white papers on GA102 and AD102.
PEAKS = {
    "H100 PCIe": (756, 378),
    "H100 NVL|H200 NVL": (835, 417),
    "H100|H200|GH200": (989, 494),
    "A100": (312, 156),
    "A40": (149.7, 74.8),
    "A30": (165, 82),
    "A10": (125, 62.5),
    "L40S": (362, 183),
    "L40": (181, 90.5),
    "L4": (121, 60),
    "RTX 4090$": (165.2, 82.6),
    "RTX 3090$": (71, 35.6),
    "V100.*PCIE": (112, 14),
    "V100": (125, 15.7),
    "T4": (65, 8.1),
}
WITHOUT_BFLOAT16 = ("V100", "T4")


def peak_flops(device: str, precision: str) -> float | None:
    """FLOP/s of a device at most; None for one that is not known, as a CPU or a part of a GPU.

    Args:
        device: its name, as `torch.cuda.get_device_name` gives it.
        precision: "float16", "bfloat16" or "float32".
    """
    for name, (half, single) in PEAKS.items():
        if re.search(rf"\b(?:{name})(?!\w)", device) and "MIG" not in device:
            if precision == "bfloat16" and name.startswith(WITHOUT_BFLOAT16):
                return None
            return 1e12 * (single if precision == "float32" else half)
    return None
