"""No part of a step mixes devices: checked with fake tensors, which have a device but no data.

Except for the backward pass: autograd asks the driver for the device.
"""

import pytest
import torch
from mmengine.registry import MODELS
from tiny_model import random_views, tiny_config
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.plain_model import random_geometry
from slotcon_plugin.datasets import photometric
from slotcon_plugin.datasets.photometric import Column
from slotcon_plugin.functional.alignment import ViewGeometry
from slotcon_plugin.optim.lars import SlotConLARS


@pytest.fixture
def gpu(monkeypatch):
    """Tensors on "cuda" are fake tensors."""
    monkeypatch.setattr(FakeTensorMode, "__deepcopy__", lambda mode, memo: mode, raising=False)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def on_gpu(tensor):
    return torch.empty_like(tensor, device="cuda")


def test_losses_teacher_and_optimizer_are_on_the_gpu(gpu):
    with torch.device("cuda"):
        model = MODELS.build(tiny_config()).train()
    views = [on_gpu(view.float()) for view in random_views(3)]
    geometry = ViewGeometry(*map(on_gpu, random_geometry(3)))
    model.update_teacher(0, 10)
    results = model(views, geometry, mode="loss")
    assert {value.device.type for value in results.values()} == {"cuda"}
    assert {element.slots.device.type for element in model(views[0], mode="predict")} == {"cuda"}

    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = SlotConLARS(params, lr=0.1)
    for _ in range(2):
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
    buffers = [value for state in optimizer.state.values() for value in state.values()]
    assert {value.device.type for value in buffers} == {"cuda"}


def test_colors_change_on_the_gpu(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda tensor: True)
    parameters = torch.zeros(4, len(Column))
    parameters[:, Column.FIRST : Column.FOURTH + 1] = torch.arange(4.0)
    parameters[:, :4] = torch.tensor([0.9, 1.2, 0.7, 0.1])
    parameters[:, Column.GRAY] = parameters[:, Column.BLUR_SIGMA] = 1.0
    parameters[:, Column.SOLARIZE] = 128
    with FakeTensorMode(allow_non_fake_inputs=True):
        views = torch.empty(4, 3, 32, 32, dtype=torch.uint8, device="cuda")
        assert photometric.augment(views, parameters).device.type == "cuda"


def test_a_wrong_device_is_found(gpu):
    with pytest.raises(RuntimeError, match="different"):
        torch.empty(3, device="cuda") + torch.empty(3)
