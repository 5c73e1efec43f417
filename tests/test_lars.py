"""LARS: two steps by hand, twenty steps equal to the reference, and wrong arguments."""

import copy

import pytest
import torch
from torch import nn

from slotcon_plugin import reference as plain
from slotcon_plugin.optim.lars import SlotConLARS


def parameter(values, gradient):
    p = nn.Parameter(torch.tensor(values, dtype=torch.float64))
    p.grad = torch.tensor(gradient, dtype=torch.float64)
    return p


def close(p, values):
    torch.testing.assert_close(
        p.detach(), torch.tensor(values, dtype=torch.float64), rtol=1e-12, atol=0
    )


def test_two_steps_of_a_matrix_by_hand():
    """|p| = 5 with p = (3, 0; 0, 4); with decay 0.1, d = g + 0.1 p = (0, 0.6; 0.8, 0), |d| = 1."""
    p = parameter([[3.0, 0], [0, 4]], [[-0.3, 0.6], [0.8, -0.4]])
    optimizer = SlotConLARS([p], lr=2.0, momentum=0.5, weight_decay=0.1, trust_coefficient=0.01)
    optimizer.step()  # μ = 0.01 · 5 / 1 · d = (0, 0.03; 0.04, 0)
    close(p, [[3, -0.06], [-0.08, 4]])

    # |p|² = 25 + 0.0036 + 0.0064; g is chosen so that d = (2, 0; 0, 0): the step is 0.01 |p|.
    p.grad = torch.tensor([[2 - 0.3, 0.006], [0.008, -0.4]], dtype=torch.float64)
    optimizer.step()
    adapted = 0.01 * 25.01**0.5  # μ = 0.5 (0, 0.03; 0.04, 0) + (adapted, 0; 0, 0)
    close(p, [[3 - 2 * adapted, -0.06 - 2 * 0.015], [-0.08 - 2 * 0.02, 4]])


def test_two_steps_of_a_vector_by_hand():
    """Plain momentum: no decay, no adaptation. μ = g, then 0.5 g + g'."""
    p = parameter([10.0, -20.0], [1.0, 2.0])
    optimizer = SlotConLARS([p], lr=0.1, momentum=0.5, weight_decay=0.3)
    optimizer.step()
    close(p, [9.9, -20.2])
    p.grad = torch.tensor([-1.0, 4.0], dtype=torch.float64)
    optimizer.step()  # μ = (-0.5, 5)
    close(p, [9.95, -20.7])


def test_the_momentum_buffer_does_not_contain_the_learning_rate():
    p = parameter([0.0], [1.0])
    optimizer = SlotConLARS([p], lr=1.0, momentum=0.9)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.1
    p.grad.zero_()
    optimizer.step()  # μ = 0.9, at the new rate
    close(p, [-1 - 0.09])


def test_without_a_norm_the_factor_is_1():
    start = parameter([[0.0, 0], [0, 0]], [[1.0, 2], [3, 4]])  # |p| = 0: nothing to adapt to
    still = parameter([[1.0, 2], [3, 4]], [[0.0, 0], [0, 0]])  # |d| = 0 without decay: no step
    SlotConLARS([start, still], lr=0.1, weight_decay=0.0).step()
    close(start, [[-0.1, -0.2], [-0.3, -0.4]])
    close(still, [[1, 2], [3, 4]])


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(64, 7),
        nn.PReLU(),
    ).double()


def backward(model, step):
    g = torch.Generator().manual_seed(step)
    images = torch.randn(5, 3, 6, 6, generator=g, dtype=torch.float64)
    model.zero_grad()
    model(images).pow(2).mean().backward()


def test_twenty_steps_equal_the_reference():
    ours, theirs = network(), network()
    optimizer = SlotConLARS(ours.parameters(), lr=0, weight_decay=1e-2, trust_coefficient=0.02)
    params = list(theirs.parameters())
    buffers = [torch.zeros_like(p) for p in params]
    start = [p.detach().clone() for p in params]
    for step in range(20):
        lr = 0.5 / (1 + step)
        optimizer.param_groups[0]["lr"] = lr
        backward(ours, step)
        backward(theirs, step)
        optimizer.step()
        plain.lars_step(params, buffers, lr, weight_decay=1e-2, trust=0.02)
    for mine, expected, before in zip(ours.parameters(), params, start, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-14)
        assert not torch.allclose(mine, before)


def test_defaults_are_the_papers():
    group = SlotConLARS([nn.Parameter(torch.ones(1))], lr=2.0).param_groups[0]
    assert (group["momentum"], group["weight_decay"], group["trust_coefficient"]) == (
        0.9,
        1e-5,
        0.001,
    )


def test_gradients_do_not_change():
    model = network()
    optimizer = SlotConLARS(model.parameters(), lr=0.1, weight_decay=0.1)
    for step in range(2):
        backward(model, step)
        before = [p.grad.clone() for p in model.parameters()]
        optimizer.step()
        for p, grad in zip(model.parameters(), before, strict=True):
            assert torch.equal(p.grad, grad)


def test_a_parameter_without_gradient_does_not_change_and_has_no_state():
    trained, frozen = parameter([[1.0]], [[1.0]]), nn.Parameter(torch.ones(2, 2))
    optimizer = SlotConLARS([trained, frozen], lr=0.1)
    optimizer.step()
    assert torch.equal(frozen.detach(), torch.ones(2, 2))
    assert frozen not in optimizer.state


def test_groups_have_hyper_parameters_of_their_own():
    fast, slow = parameter([0.0], [1.0]), parameter([0.0], [1.0])
    SlotConLARS([dict(params=[fast], lr=1.0), dict(params=[slow])], lr=0.1).step()
    close(fast, [-1.0])
    close(slow, [-0.1])


def test_a_closure_is_called_with_gradients():
    model = network()
    optimizer = SlotConLARS(model.parameters(), lr=0.1)

    def closure():
        backward(model, 0)
        return torch.tensor(3.0)

    assert optimizer.step(closure).item() == 3
    assert optimizer.state


def test_resuming_from_the_state_dict_changes_nothing():
    model = network()
    optimizer = SlotConLARS(model.parameters(), lr=0.3, weight_decay=1e-2)
    for step in range(3):
        backward(model, step)
        optimizer.step()
    resumed = copy.deepcopy(model)
    second = SlotConLARS(resumed.parameters(), lr=99.0)
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(3, 6):
        for net, opt in ((model, optimizer), (resumed, second)):
            backward(net, step)
            opt.step()
    for mine, theirs in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("value", [-1, "abc", float("nan")])
@pytest.mark.parametrize("name", ["lr", "momentum", "weight_decay", "trust_coefficient"])
def test_a_wrong_value_is_named(name, value):
    p = nn.Parameter(torch.ones(1))
    with pytest.raises(ValueError, match=f"{name} is {value!r}, expected a number in"):
        SlotConLARS([p], **{"lr": 1.0, name: value})
    with pytest.raises(ValueError, match=f"{name} is {value!r}, expected a number in"):
        SlotConLARS([{"params": [p], name: value}], lr=1.0)
    with pytest.raises(ValueError, match=r"momentum is 1.1, expected a number in \[0, 1\]"):
        SlotConLARS([p], lr=1.0, momentum=1.1)
