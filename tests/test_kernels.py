"""Every kernel equals its plain function in float64: values, gradients, and ties."""

import pytest
import torch
import torch.nn.functional as F

from slotcon_plugin.functional import kernels
from slotcon_plugin.functional.diagnostics import assignment_entropy, feature_std

EXACT = dict(rtol=1e-10, atol=1e-12)
LAYOUTS = [
    (0, 1, 2, 3),
    (0, 2, 3, 1),
    (0, 1, 3, 2),
    (2, 0, 1, 3),
]  # axes in memory, outermost first


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stored_as(tensor, order):
    """The same tensor with its axes in another order in memory."""
    return tensor.permute(order).contiguous().permute([order.index(axis) for axis in range(4)])


def random_alignment(batch, pixels, seed=0):
    """Index and weight, (batch, pixels, 4), with repeated pixels and weights of any sum."""
    g = torch.Generator().manual_seed(seed)
    index = torch.randint(pixels, (batch, pixels, 4), generator=g)
    return index, torch.rand(index.shape, generator=g, dtype=torch.float64)


def assert_equal_with_gradient(kernel, plain, *inputs):
    """Values, and the inputs' gradients for a random upstream gradient, along one graph twice."""
    results = []
    for function in (kernel, plain):
        leaves = [x.detach().clone().requires_grad_() for x in inputs]
        value = function(*leaves)
        upstream = randn(*value.shape, seed=9)
        grads = [torch.autograd.grad(value, leaves, upstream, retain_graph=True) for _ in range(2)]
        results.append((value.detach(), *grads))
    torch.testing.assert_close(*results, **EXACT)


@pytest.fixture(params=[None, 1], ids=["in one chunk", "one image per chunk"])
def chunk(request, monkeypatch):
    if request.param:
        monkeypatch.setattr(kernels, "CPU_CHUNK", request.param)


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 5, 7), (0, 4)])
def test_unit_length(shape):
    vectors = randn(*shape)
    vectors[..., :1, :] = 0  # no direction
    assert_equal_with_gradient(kernels.UnitLength.apply, lambda v: F.normalize(v, dim=-1), vectors)
    transposed = vectors.transpose(0, -1).contiguous().transpose(0, -1)
    assert torch.equal(kernels.UnitLength.apply(transposed), kernels.UnitLength.apply(vectors))


def plain_log_attention(scores, index, temperature):
    log_attention = (scores / temperature).log_softmax(dim=1).flatten(2).transpose(1, 2)
    return torch.stack([rows[:, chosen] for rows, chosen in zip(log_attention, index, strict=True)])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.usefixtures("chunk")
def test_chosen_log_attention(layout):
    index = torch.tensor([[0, 0, 5], [1, 3, 3], [2, 4, 0]])  # with repeats
    assert_equal_with_gradient(
        lambda s: kernels.ChosenLogAttention.apply(stored_as(s, layout), index, 0.07),
        lambda s: plain_log_attention(s, index, 0.07),
        randn(3, 6, 2, 5),
    )


def plain_resample(maps, index, weight):
    mixed = torch.stack([m[i] for m, i in zip(maps, index, strict=True)])  # (b, p, 4, k)
    return (mixed * weight[..., None]).sum(dim=2)


@pytest.mark.parametrize("pixels", [15, 1])
def test_resample_and_its_gradient(pixels):
    maps, upstream = randn(2, 4, pixels, 7)
    maps.requires_grad_()
    alignment = random_alignment(4, pixels)
    expected = plain_resample(maps, *alignment)
    torch.testing.assert_close(kernels.resample(maps.detach(), *alignment), expected.detach())
    expected.backward(upstream)
    torch.testing.assert_close(kernels.resample_backward(upstream, *alignment), maps.grad, **EXACT)


def plain_cross_entropy(student, teacher, student_alignment, teacher_alignment, center):
    student, teacher = (maps.flatten(2).transpose(1, 2) for maps in (student, teacher))
    target = (plain_resample(teacher, *teacher_alignment) - center).softmax(dim=2)
    log_assignment = plain_resample(student, *student_alignment).log_softmax(dim=2)
    return -(target * log_assignment).sum(dim=2).mean()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.usefixtures("chunk")
def test_aligned_cross_entropy(layout):
    student, teacher, center = randn(3, 6, 2, 5), randn(3, 6, 2, 5, seed=1), randn(1, 6, seed=2)
    alignments = random_alignment(3, 10), random_alignment(3, 10, seed=1)

    def kernel(student):
        maps = stored_as(student, layout), stored_as(teacher, layout)
        return kernels.AlignedCrossEntropy.apply(*maps, *alignments, center)

    def plain(student):
        return plain_cross_entropy(student, teacher, *alignments, center)

    assert_equal_with_gradient(kernel, plain, student)
    assert torch.equal(kernel(student), kernel(student.requires_grad_()).detach())


def test_winners_are_the_first_of_equals():
    scores = randn(3, 200, 4, 5)
    scores[:, 7] = scores[:, 11] = 100
    scores[0, :, 0, 0] = 0
    expected = scores.argmax(dim=1).flatten(1)
    for layout in LAYOUTS:
        assert torch.equal(kernels.winners(stored_as(scores, layout).requires_grad_()), expected)
    assert expected[0, 0] == 0 and set(expected.flatten().tolist()) == {0, 7}


def test_log_normalizer():
    logits = 50 * randn(4, 3, 9)
    found = kernels.log_normalizer(logits, logits.softmax(dim=2))
    torch.testing.assert_close(found, logits.logsumexp(dim=2), **EXACT)


@pytest.mark.usefixtures("chunk")
def test_assignment_entropy():
    scores = randn(3, 6, 2, 5)
    log_assignment = (scores / 0.3).log_softmax(dim=1)
    expected = -(log_assignment.exp() * log_assignment).sum(dim=1).mean()
    torch.testing.assert_close(assignment_entropy(scores, 0.3), expected, **EXACT)


def test_feature_std():
    views = F.normalize(randn(2, 3, 8, 4, 5) + 1, dim=2)
    expected = views.transpose(1, 2).transpose(0, 1).flatten(1).std(dim=1).mean() * 8**0.5
    torch.testing.assert_close(feature_std(*views), expected, **EXACT)


@pytest.mark.parametrize(("images", "expected"), [(5, [2, 2, 1]), (1, [1]), (0, [])])
def test_chunks_cover_all_images(images, expected, monkeypatch):
    monkeypatch.setattr(kernels, "CPU_CHUNK", 2 * 6 * 8)
    maps = torch.zeros(images, 2, 3, dtype=torch.float64)
    chunks = [maps[chunk] for chunk in kernels.image_chunks(maps)]
    assert list(map(len, chunks)) == expected
