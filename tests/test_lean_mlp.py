"""The projector that keeps one hidden map equals the plain one: values, gradients, statistics."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from benchmarks.processes import run_processes
from slotcon_plugin.functional import kernels
from slotcon_plugin.functional.lean_mlp import lean_mlp
from slotcon_plugin.models.mlp import PixelProjector

EXACT = dict(rtol=1e-9, atol=1e-11)


def projector(dtype=torch.float64, **options):
    torch.manual_seed(0)
    net = PixelProjector(6, 10, 4, **options).to(dtype)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return net


def results(net, maps, run=None):
    """Output, gradients of input and parameters, and statistics, after one step."""
    maps = maps.clone().requires_grad_()
    out = (run or net)(maps)
    (out * torch.linspace(-1, 1, out.shape[1], dtype=out.dtype)[:, None, None]).sum().backward()
    return dict(
        output=out.detach(),
        input=maps.grad,
        gradients={n: p.grad for n, p in net.named_parameters()},
        statistics=dict(net.named_buffers()),
    )


@pytest.mark.parametrize("limit", [1, 10 * 8 * 7, 10**9], ids=["row by row", "7 rows", "at once"])
def test_it_equals_the_plain_projector(monkeypatch, limit):
    monkeypatch.setattr(kernels, "CPU_CHUNK", limit)
    maps = torch.randn(3, 6, 4, 5, dtype=torch.float64)
    plain, lean = results(projector(), maps), results(projector(recompute=True), maps)
    torch.testing.assert_close(lean, plain, **EXACT)


def test_it_equals_the_plain_projector_in_mixed_precision():
    maps = torch.randn(3, 6, 4, 5)
    with torch.autocast("cpu", torch.bfloat16):
        plain = results(projector(torch.float32), maps)
        lean = results(projector(torch.float32, recompute=True), maps)
    assert plain["output"].dtype == lean["output"].dtype == torch.bfloat16
    for name in ("mlp.1.bias", "mlp.4.bias"):
        plain["gradients"].pop(name.replace("1", "0").replace("4", "3"))  # zero up to rounding
        lean["gradients"].pop(name.replace("1", "0").replace("4", "3"))
    torch.testing.assert_close(lean, plain, rtol=0.05, atol=0.05)


def test_it_is_plain_in_evaluation_and_its_teacher_has_statistics_too():
    net, maps = projector(recompute=True).eval(), torch.randn(2, 6, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(net(maps), projector().eval()(maps), **EXACT)
    net.mlp[1].train(), net.mlp[4].train()  # as in the teacher
    with torch.no_grad():
        torch.testing.assert_close(net(maps), projector()(maps), **EXACT)
    assert net.mlp[4].num_batches_tracked == 1


def test_only_one_hidden_map_is_kept():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        projector(recompute=True)(torch.randn(3, 6, 4, 5, dtype=torch.float64))
    assert [shape for shape in kept if shape == (60, 10)] == [(60, 10)]
    assert not any(shape[1:2] == (10,) and len(shape) == 4 and shape[2] > 1 for shape in kept)


def test_a_second_backward_pass_is_refused():
    out = projector(recompute=True)(torch.randn(2, 6, 3, 3, dtype=torch.float64)).sum()
    out.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


@pytest.mark.parametrize("options", [dict(num_layers=2), dict(batch_norm=False)])
def test_other_structures_are_refused(options):
    with pytest.raises(ValueError, match="expected 3 layers with batch norm, or recompute=False"):
        PixelProjector(6, 10, 4, recompute=True, **options)


def synchronized(rank):
    """The part of one process, of different size, with synchronized norms."""
    net = nn.SyncBatchNorm.convert_sync_batchnorm(projector())
    maps = torch.randn(3, 6, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = results(net, maps[rank:] if rank else maps[:1], lambda part: lean_mlp(net.mlp, part))
    for gradient in found["gradients"].values():
        dist.all_reduce(gradient)
    return found


def test_synchronized_norms_of_two_processes_equal_one():
    maps = torch.randn(3, 6, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plain = results(projector(), maps)
    ranks = run_processes(synchronized, 2)
    together = copy.copy(plain)
    for name in ("output", "input"):
        together[name] = torch.cat([found[name] for found in ranks])
    for found in ranks:
        together |= {name: found[name] for name in ("gradients", "statistics")}
        torch.testing.assert_close(together, plain, **EXACT)
