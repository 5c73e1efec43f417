"""A wide MLP with batch norm on very many rows, of whose six hidden maps one is kept."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .collectives import sum_over_processes
from .kernels import image_chunks

gelu_backward = torch.ops.aten.gelu_backward


class _Norm(NamedTuple):
    """Batch norm of chunks (n, c) of a batch whose moments are known."""

    gamma_c: Tensor
    beta_c: Tensor
    mean_c: Tensor
    variance_c: Tensor
    eps: float

    def __call__(self, rows_nc: Tensor) -> Tensor:
        moments = self.mean_c, self.variance_c
        return F.batch_norm(rows_nc, *moments, self.gamma_c, self.beta_c, eps=self.eps)

    def unit(self, rows_nc: Tensor) -> Tensor:
        """The rows with mean 0 and variance 1."""
        return F.batch_norm(rows_nc, self.mean_c, self.variance_c, eps=self.eps)

    def input_gradient(self, upstream_nc: Tensor, rows_nc: Tensor, means_2c: Tensor) -> Tensor:
        """`means_2c`: over the batch, of the upstream gradient and of its product with `unit`."""
        mean_c, product_c = means_2c.to(rows_nc.dtype)
        scale_c = (self.gamma_c * (self.variance_c + self.eps).rsqrt()).to(rows_nc.dtype)
        orthogonal_nc = torch.addcmul(upstream_nc - mean_c, self.unit(rows_nc), product_c, value=-1)
        return orthogonal_nc.mul_(scale_c)


class _Sums:
    """Sums (2, c) over the rows of all chunks, and of all processes if `synchronized`."""

    def __init__(self, like_c: Tensor, rows: int, synchronized: bool) -> None:
        self.sums_3c = like_c.new_full((3, len(like_c)), rows, dtype=torch.float64)
        self.sums_2c = self.sums_3c[:2].zero_()
        self.synchronized = synchronized

    def means(self) -> Tensor:
        sums_3c = sum_over_processes(self.sums_3c) if self.synchronized else self.sums_3c
        self.rows = sums_3c[2, 0]  # of all processes
        return sums_3c[:2] / sums_3c[2]

    def add_moments(self, rows_nc: Tensor) -> None:
        """Add a chunk's values and squares."""
        dtype = torch.promote_types(rows_nc.dtype, torch.float32)
        variance_c, mean_c = (
            m.double() for m in torch.var_mean(rows_nc.to(dtype), 0, correction=0)
        )
        self.sums_2c += len(rows_nc) * torch.stack([mean_c, variance_c + mean_c.square()])

    def moments(self) -> list[Tensor]:
        mean_c, square_c = self.means()
        return [mean_c, (square_c - mean_c.square()).clamp(min=0)]


class LeanMLP(Function):
    """`mlp(x)`: linear, batch norm, GELU, twice, and linear, of rows (n, c), in training mode.

    The input of the second batch norm is kept for the backward pass. From it and from the narrow
    input the other hidden maps are computed again, a chunk of rows at a time; none of the products
    between two wide maps is.

    Arguments: rows; eps and whether the norms are synchronized between processes; weights and
    biases in the order of the layers. Returns the result (n, d), the number of rows of all
    processes, mean and variance of each norm.
    """

    @staticmethod
    def forward(ctx, x_nc, eps, synchronized, *params):
        device = x_nc.device.type
        mixed = torch.is_autocast_enabled(device)
        x_nc = x_nc.to(torch.get_autocast_dtype(device)) if mixed else x_nc
        (w0, b0), scale0, (w1, b1), scale1, (w2, b2) = _layers(params, x_nc.dtype)
        hidden_nc, y_nd = x_nc.new_empty((len(x_nc), len(b1))), x_nc.new_empty((len(x_nc), len(b2)))
        with torch.autocast(device, enabled=False):
            sums = _Sums(b0, len(x_nc), synchronized)
            for rows in image_chunks(hidden_nc):
                sums.add_moments(F.linear(x_nc[rows], w0, b0))
            norm0 = _Norm(*scale0, *(m.to(scale0[0]) for m in sums.moments()), eps)
            sums = _Sums(b1, len(x_nc), synchronized)
            for rows in image_chunks(hidden_nc):
                hidden_nc[rows] = F.linear(F.gelu(norm0(F.linear(x_nc[rows], w0, b0))), w1, b1)
                sums.add_moments(hidden_nc[rows])
            norm1 = _Norm(*scale1, *(m.to(scale1[0]) for m in sums.moments()), eps)
            for rows in image_chunks(hidden_nc):
                y_nd[rows] = F.linear(F.gelu(norm1(hidden_nc[rows])), w2, b2)
        moments = [norm0.mean_c, norm0.variance_c, norm1.mean_c, norm1.variance_c]
        ctx.save_for_backward(x_nc, hidden_nc, *moments, *params)
        ctx.eps, ctx.synchronized = eps, synchronized
        ctx.mark_non_differentiable(sums.rows, *moments)
        return y_nd, sums.rows, *moments

    @staticmethod
    @once_differentiable
    def backward(ctx, dy_nd, *_):
        x_nc, hidden_nc, *rest = ctx.saved_tensors
        moments, params = rest[:4], rest[4:]
        (w0, b0), scale0, (w1, b1), scale1, (w2, _) = _layers(params, x_nc.dtype)
        norm0, norm1 = _Norm(*scale0, *moments[:2], ctx.eps), _Norm(*scale1, *moments[2:], ctx.eps)
        dw0, dw1, dw2 = (torch.zeros_like(p.flatten(1)) for p in params[::4])
        db0, db1 = torch.zeros_like(params[1]), torch.zeros_like(params[5])
        sums0, sums1 = (_Sums(b, len(x_nc), ctx.synchronized) for b in (b0, b1))
        dx_nc, dy_nd = torch.empty_like(x_nc), dy_nd.to(x_nc.dtype)

        def through_gelu1(rows):
            return gelu_backward(dy_nd[rows] @ w2, norm1(hidden_nc[rows]))

        def add(sums, upstream_nc, unit_nc):
            sums.sums_2c += torch.stack([_sum(upstream_nc), _sum(upstream_nc * unit_nc)])

        for rows in image_chunks(hidden_nc):
            _add_product(dw2, dy_nd[rows].T, F.gelu(norm1(hidden_nc[rows])))
            add(sums1, through_gelu1(rows), norm1.unit(hidden_nc[rows]))
        means1_2c = sums1.means()
        for rows in image_chunks(hidden_nc):
            dhidden_nc = norm1.input_gradient(through_gelu1(rows), hidden_nc[rows], means1_2c)
            first_nc = F.linear(x_nc[rows], w0, b0)
            normed_nc = norm0(first_nc)
            _add_product(dw1, dhidden_nc.T, F.gelu(normed_nc))
            db1 += _sum(dhidden_nc)
            # In place: autograd refuses a second backward pass, because a kept tensor has changed.
            hidden_nc[rows] = gelu_backward(dhidden_nc @ w1, normed_nc)
            add(sums0, hidden_nc[rows], norm0.unit(first_nc))
        means0_2c = sums0.means()
        for rows in image_chunks(hidden_nc):
            first_nc = F.linear(x_nc[rows], w0, b0)
            dfirst_nc = norm0.input_gradient(hidden_nc[rows], first_nc, means0_2c)
            _add_product(dw0, dfirst_nc.T, x_nc[rows])
            db0 += _sum(dfirst_nc)
            dx_nc[rows] = dfirst_nc @ w0
        (dbeta0, dgamma0), (dbeta1, dgamma1) = sums0.sums_2c, sums1.sums_2c
        grads = dw0, db0, dgamma0, dbeta0, dw1, db1, dgamma1, dbeta1, dw2, _sum(dy_nd)
        return dx_nc, None, None, *(g.to(p).view_as(p) for g, p in zip(grads, params, strict=True))


@torch.compiler.disable
def lean_mlp(layers: nn.Sequential, map_bchw: Tensor) -> Tensor:
    """`layers(map)` of 1×1 convolutions with batch norm and GELU, see `LeanMLP`: (b, d, h, w).

    The statistics of the norms are updated as they do it themselves. The result has channels
    innermost in memory.
    """
    norms = layers[1], layers[4]
    rows_nc = map_bchw.permute(0, 2, 3, 1).flatten(0, 2)
    settings = norms[0].eps, isinstance(norms[0], nn.SyncBatchNorm)
    y_nd, rows, *moments = LeanMLP.apply(rows_nc, *settings, *layers.parameters())
    with torch.no_grad():
        for norm, mean_c, variance_c in zip(norms, moments[::2], moments[1::2], strict=True):
            norm.num_batches_tracked.add_(1)
            norm.running_mean.lerp_(mean_c, norm.momentum)
            unbiased_c = (variance_c * (rows / (rows - 1))).to(variance_c)
            norm.running_var.lerp_(unbiased_c, norm.momentum)
    return y_nd.unflatten(0, map_bchw.permute(0, 2, 3, 1).shape[:3]).permute(0, 3, 1, 2)


def _layers(params: tuple[Tensor, ...], dtype: torch.dtype) -> list[list[Tensor]]:
    """Weight and bias of each layer; those of linear layers as matrices of this type."""
    pairs = [list(params[i : i + 2]) for i in range(0, len(params), 2)]
    for pair in pairs[::2]:
        pair[:] = pair[0].flatten(1).to(dtype), pair[1].to(dtype)
    return pairs


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:  # mixed precision
        total += left @ right


def _sum(rows_nc: Tensor) -> Tensor:
    return rows_nc.sum(0, dtype=torch.promote_types(rows_nc.dtype, torch.float32))
