"""benchmarks/precision_curves.py: verdicts on given curves; bfloat16 products of a GPU."""

import numpy as np
import pytest
import torch

from benchmarks import precision_curves
from benchmarks.rounded_bfloat16 import RoundedProducts


def run(monkeypatch, shift, *arguments):
    """Compare curves of noise around 1, those of bfloat16 moved by `shift` of one deviation."""

    def train(way, seed, args):
        noise = np.random.default_rng(seed).normal(size=args.steps)
        return 1 + noise + shift * (way != "float32")

    monkeypatch.setattr(precision_curves, "train", train)
    return precision_curves.main(["--ways", "bfloat16", "--steps", "40", *arguments])


@pytest.mark.parametrize(("shift", "status", "verdict"), [(0.1, 0, "within"), (3, 1, "NOT within")])
def test_a_way_passes_within_one_deviation_of_the_seeds(
    shift, status, verdict, monkeypatch, capsys, tmp_path
):
    drawn = tmp_path / "curves.png"
    assert run(monkeypatch, shift, "--out", str(drawn)) == status
    line = next(line for line in capsys.readouterr().out.splitlines() if "bfloat16" in line)
    way, distance, last, equal, *words = line.split()
    assert (way, float(distance), float(last)) == ("bfloat16", shift, shift)
    assert (equal, " ".join(words)) == ("0", verdict)
    assert drawn.stat().st_size > 10_000


def test_equal_curves_are_equal_in_all_steps(monkeypatch, capsys):
    assert run(monkeypatch, 0) == 0
    assert " 0.0000     +0.0000           40  within" in capsys.readouterr().out


def test_a_way_that_needs_a_gpu_is_named(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(precision_curves, "train", lambda way, seed, args: np.arange(args.steps))
    precision_curves.main(["--ways", "float16", "--steps", "8"])
    assert "float16: not possible on this machine" in capsys.readouterr().out


def test_one_seed_has_no_deviation(capsys):
    with pytest.raises(SystemExit, match="2"):
        precision_curves.parse_args(["--seeds", "1"])
    assert "--seeds is 1, expected 2 or more" in capsys.readouterr().err


def test_products_are_summed_in_float32_and_rounded_once():
    """1 + 256 · 2⁻⁹ is 1.5 in float32; a sum that is rounded to 8 bits at each step stays 1."""
    row = torch.tensor([[1.0] + [2**-9] * 256], dtype=torch.bfloat16)
    with RoundedProducts():
        product = row @ torch.ones_like(row).T
        linear = torch.nn.functional.linear(row, torch.ones_like(row), row[0, :1])
    assert product.dtype == linear.dtype == torch.bfloat16
    assert (product.item(), linear.item()) == (1.5, 2.5)


def test_gradients_of_rounded_products():
    g = torch.Generator().manual_seed(0)
    image = torch.randn(2, 3, 8, 8, generator=g).bfloat16()
    weight = torch.randn(4, 3, 3, 3, generator=g).bfloat16().requires_grad_()
    exact = weight.detach().float().requires_grad_()
    with RoundedProducts():
        torch.conv2d(image, weight).sum().backward()
    torch.conv2d(image.float(), exact).sum().backward()
    assert torch.equal(weight.grad, exact.grad.bfloat16())
