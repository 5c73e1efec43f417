"""Two processes equal the reference, whatever slots are active: losses, gradients and center.

In `plain.losses` each process has its own queries, mean and batch of the predictor; keys and the
center are common to all; gradients of weights are means over the processes.
"""

import contextlib
import copy

import pytest
import torch
import torch.distributed as dist
from tiny_model import brightness_model, gradients, random_views
from torch import nn

from benchmarks.plain_model import plain_losses
from benchmarks.processes import run_processes
from slotcon_plugin import reference as plain
from slotcon_plugin.functional import collectives
from slotcon_plugin.functional.alignment import ViewGeometry, align
from slotcon_plugin.functional.grouping import (
    Grouping,
    active_slots,
    prototype_scores,
    unit_directions,
)
from slotcon_plugin.models.grouping_loss import GroupingLoss
from slotcon_plugin.models.mlp import SlotPredictor
from slotcon_plugin.models.slot_loss import SlotLoss

PROCESSES = 2
EXACT = dict(rtol=1e-9, atol=1e-11)


def _worker(rank):
    """Every job of this file, because a process starts slowly."""
    return dict(
        exchanges=send_around(rank),
        all=losses_on_features(rank),
        none_on_0=losses_on_features(rank, zero_on=0),
        none_on_1=losses_on_features(rank, zero_on=1),
        wrapped=train_wrapped(rank),
    )


@pytest.fixture(scope="module")
def exchanged():
    """The results of each process, by rank, of a job of `_worker`."""
    ranks = run_processes(_worker, PROCESSES)
    return lambda job: [results[job] for results in ranks]


def send_around(rank):
    """The exchanges alone, with different and with no rows."""
    rows = torch.full((3 * rank + 1, 2), float(rank), requires_grad=True)
    mean = torch.tensor([[1.0, 10.0]]) * (rank + 1)
    return dict(
        ranks=(collectives.rank(), collectives.world_size()),
        mean=collectives.mean_over_processes(mean),
        own=mean,
        anywhere=collectives.any_process(torch.tensor([rank == 0, rank == 1, False])),
        counts=collectives.share_counts(torch.tensor([rank + 5, 7, 9])),
        rows=collectives.gather_rows(rows, [1, 4]),
        none_here=collectives.gather_rows(rows[:rank], [0, 1]),
        none=collectives.gather_rows(rows[:0], [0, 0]),
    )


def test_the_exchanges_alone(exchanged):
    for rank, result in enumerate(exchanged("exchanges")):
        assert result["ranks"] == (rank, 2)
        assert result["mean"].tolist() == [[1.5, 15.0]]
        assert result["own"].tolist() == [[rank + 1.0, 10.0 * rank + 10]]  # not changed in place
        assert result["anywhere"].tolist() == [True, True, False]
        assert result["counts"] == [[5, 7, 9], [6, 7, 9]]
        assert result["rows"].tolist() == [[0.0, 0.0]] + [[1.0, 1.0]] * 4
        assert not result["rows"].requires_grad
        assert result["none_here"].tolist() == [[1.0, 1.0]]
        assert result["none"].shape == (0, 2)


def test_on_one_process_they_are_the_identity():
    rows = torch.randn(3, 2)
    assert (collectives.rank(), collectives.world_size()) == (0, 1)
    assert collectives.mean_over_processes(rows) is rows
    assert collectives.any_process(rows > 0).equal(rows > 0)
    assert collectives.gather_rows(rows, [3]) is rows
    assert collectives.share_counts(torch.tensor([4, 2])) == [[4, 2]]


# ---- the losses on chosen features --------------------------------------------------------------


def features(rank, zero_on=None):
    """Two views of a student and a teacher, (b, 12, 4, 5), with b = 2 on rank 0 and 3 on rank 1.

    On the process `zero_on` they point along the axis on which student and teacher have different
    prototypes; elsewhere they point against it. On rank 1 pixels vary less: fewer slots win.
    """
    g = torch.Generator().manual_seed(rank)
    pixels = torch.randn(4, 2 + rank, 12, 4, 5, generator=g, dtype=torch.float64)
    if rank == 1:
        pixels = 0.3 * pixels + pixels[..., :1, :1]
    if zero_on is not None:
        pixels[:, :, 0] = 20 if rank == zero_on else -20
    return list(pixels[:2]), list(pixels[2:])


def weights(zero_on=None):
    """Prototypes of student and teacher, predictor and center."""
    torch.manual_seed(9)
    student = torch.randn(15, 12, dtype=torch.float64)
    teacher = student + 0.1 * torch.randn(15, 12, dtype=torch.float64)
    if zero_on is not None:
        for prototypes, towards in ((student, slice(0, 5)), (teacher, slice(5, 10))):
            prototypes[:, 0] = 0
            prototypes[towards, 0] = 20
            prototypes[10:, 0] = -20
    predictor = SlotPredictor(12, 16).double()
    center = 0.1 * torch.randn(1, 15, dtype=torch.float64)
    return nn.Parameter(student), teacher, predictor, center


def geometry(rank):
    g = torch.Generator().manual_seed(50 + rank)
    corners = torch.rand(2, 2 + rank, 2, 2, generator=g, dtype=torch.float64).sort(dim=2).values
    return ViewGeometry(corners.flatten(2), torch.rand(2, 2 + rank, generator=g) < 0.5)


def group(pixels, prototypes):
    directions = unit_directions(pixels)
    scores = prototype_scores(directions, prototypes)
    return Grouping(pixels, directions, scores, 0.07, active_slots(scores))


def losses_on_features(rank, zero_on=None):
    """Our losses of one process, with its gradients and what the slot loss sent."""
    prototypes, teacher_prototypes, predictor, center = weights(zero_on)
    student_pixels, teacher_pixels = features(rank, zero_on)
    for pixels in student_pixels:
        pixels.requires_grad_()
    student = [group(pixels, prototypes) for pixels in student_pixels]
    teacher = [group(pixels, teacher_prototypes) for pixels in teacher_pixels]

    group_loss, slot_loss = GroupingLoss(15).double(), SlotLoss()
    group_loss.center.copy_(center)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).double()  # alignment has tests of its own
    size = student[0].scores.shape[2:]
    alignments = [
        align(whole.expand(len(flips), -1), flips, *size) for flips in geometry(rank).flips
    ]
    scores = ([view.scores for view in views] for views in (student, teacher))
    group_losses = group_loss(*scores, alignments)
    group_loss.move_center([view.scores for view in teacher])
    with noted_exchanges() as sent:
        slot_losses = slot_loss(student, teacher, predictor)
    (0.5 * group_losses.sum() + 0.5 * slot_losses.sum()).backward()
    return dict(
        group=group_losses.detach(),
        slot=slot_losses.detach(),
        center=group_loss.center,
        pixels=[pixels.grad for pixels in student_pixels],
        prototypes=prototypes.grad,
        predictor=[p.grad for p in predictor.parameters()],
        sent=sent,
    )


@contextlib.contextmanager
def noted_exchanges():
    """Notes the type and number of elements of every all-gather, and sends them all the same."""
    sent, gather = [], dist.all_gather_into_tensor

    def noted(output, tensor, *args, **kwargs):
        sent.append((tensor.dtype, tensor.numel()))
        return gather(output, tensor, *args, **kwargs)

    dist.all_gather_into_tensor = noted
    yield sent
    dist.all_gather_into_tensor = gather


def plain_on_features(zero_on=None):
    """The same for both processes, by the reference."""
    prototypes, teacher_prototypes, predictor, center = weights(zero_on)
    processes = []
    for rank in range(PROCESSES):
        student, teacher = features(rank, zero_on)
        whole = torch.tensor([0, 0, 1, 1.0], dtype=torch.float64).expand(2, 2 + rank, 4)
        for pixels in student:
            pixels.requires_grad_()
        processes.append(plain.Projected(student, teacher, whole, geometry(rank).flips))
    parts = prototypes, teacher_prototypes, predictor, center, plain.Settings()
    results = [plain.losses(processes[r], *parts, others=[processes[1 - r]]) for r in range(2)]
    losses, center = [losses for losses, _ in results], results[0][1]
    # Each process has gradients of its own loss; those of weights are averaged.
    (sum(process.total for process in losses) / PROCESSES).backward()
    return processes, losses, center, prototypes, predictor


@pytest.mark.parametrize("zero_on", [None, 0, 1], ids=["all", "none on rank 0", "none on rank 1"])
def test_two_processes_equal_one(exchanged, zero_on):
    ours = exchanged("all" if zero_on is None else f"none_on_{zero_on}")
    processes, losses, center, prototypes, predictor = plain_on_features(zero_on)
    assert losses[0].queries != losses[1].queries
    for rank, expected in enumerate(losses):
        assert (sum(expected.queries) == 0) == (rank == zero_on)
        torch.testing.assert_close(ours[rank]["group"], expected.group, **EXACT)
        torch.testing.assert_close(ours[rank]["slot"], expected.slot, **EXACT)
        torch.testing.assert_close(ours[rank]["center"], center, **EXACT)
        theirs = [PROCESSES * pixels.grad for pixels in processes[rank].student]
        torch.testing.assert_close(ours[rank]["pixels"], theirs, **EXACT)

    def mean(name):
        return [sum(pair) / PROCESSES for pair in zip(*(r[name] for r in ours), strict=True)]

    torch.testing.assert_close(torch.stack(mean("prototypes")), prototypes.grad, **EXACT)
    theirs = [p.grad for p in predictor.parameters()]
    torch.testing.assert_close(mean("predictor"), theirs, **EXACT)
    if zero_on is not None:
        assert all(not grad.any() for grad in ours[zero_on]["predictor"])


def test_only_active_slots_travel(exchanged):
    keys = []  # of both directions, on each process
    for rank in range(PROCESSES):
        _, teacher = features(rank)
        scores = [plain.score_maps(view, weights()[1]) for view in teacher]
        keys.append(sum(len(plain.active_slots(view)) for view in scores))
    assert keys[0] != keys[1]
    for result in exchanged("all"):
        assert result["sent"] == [(torch.int64, 6), (torch.float64, max(keys) * 12)]
    assert max(keys) < 2 * 3 * 15  # what the dense exchange sends: views, images, prototypes


# ---- the whole model under DistributedDataParallel ----------------------------------------------


def batch_of(rank):
    """Bright images on rank 0, dark images on rank 1."""
    shift = 9 if rank == 0 else -9
    views = [view + shift for view in random_views(2 + rank, seed=rank)]
    return views, geometry(rank)


def model_that_divides():
    """Student and teacher share the prototypes of bright images, and have none of dark ones in
    common."""
    bright = slice(0, 4)
    return brightness_model(student=(bright, slice(4, 8)), teacher=(bright, slice(8, 12)))


def train_wrapped(rank):
    model = model_that_divides()
    wrapped = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
    results = []
    for _ in range(2):  # the second step hangs if the first left a reduction unfinished
        losses = wrapped(*batch_of(rank), mode="loss")
        optimizer.zero_grad()
        (losses["loss_group"] + losses["loss_slot"]).backward()
        results.append(
            dict(
                losses=[losses["loss_group"].item(), losses["loss_slot"].item()],
                gradients=copy.deepcopy(gradients(model)),
                center=model.head.group_loss.center.clone(),
            )
        )
        optimizer.step()
    return results


def test_a_wrapped_model_trains_with_no_query_on_one_process(exchanged):
    ours = exchanged("wrapped")
    reference = model_that_divides()
    losses, center = plain_losses(reference, [batch_of(rank) for rank in range(PROCESSES)])
    assert min(losses[0].queries) > 1
    assert losses[1].queries == [0, 0]
    (sum(process.total for process in losses) / PROCESSES).backward()
    for rank, (first, second) in enumerate(ours):
        expected = losses[rank]
        parts = [0.5 * expected.group.sum().item(), 0.5 * expected.slot.sum().item()]
        assert first["losses"] == pytest.approx(parts, rel=1e-9)
        torch.testing.assert_close(first["gradients"], gradients(reference), **EXACT)
        torch.testing.assert_close(first["center"], center, **EXACT)
        assert all(g.isfinite().all() for g in second["gradients"].values())
    assert ours[0][1]["center"].equal(ours[1][1]["center"])
