"""The teacher: how it starts and moves, and that its statistics are its own."""

import pytest
import torch
from mmengine.registry import MODELS
from tiny_model import random_views, tiny_config, tiny_model
from torch import nn
from torchvision.ops import StochasticDepth

from benchmarks.plain_model import random_geometry
from slotcon_plugin import reference as plain
from slotcon_plugin.functional.schedules import teacher_momentum
from slotcon_plugin.models.teacher import Teacher


def parts(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), nn.Conv2d(4, 2, 1), nn.Linear(2, 5)


def test_one_move_by_hand():
    student = nn.Linear(1, 1), nn.Identity(), nn.Identity()
    teacher = Teacher(*student)
    with torch.no_grad():
        for p in student[0].parameters():
            p.fill_(2.0)
        for p in teacher.parameters():
            p.fill_(1.0)
    teacher.follow(*student, momentum=0.75)
    assert [p.item() for p in teacher.parameters()] == [1.25, 1.25]
    teacher.follow(*student, momentum=1.0)
    assert [p.item() for p in teacher.parameters()] == [1.25, 1.25]
    teacher.follow(*student, momentum=0.0)
    assert [p.item() for p in teacher.parameters()] == [2, 2]


def test_moves_equal_the_reference_and_do_not_change_the_student():
    student = parts()
    teacher = Teacher(*student)
    expected = [p.clone() for p in teacher.parameters()]
    ours = [p for part in student for p in part.parameters()]
    for step in range(5):
        with torch.no_grad():
            for p in ours:
                p.add_(torch.randn_like(p))
        before = [p.detach().clone() for p in ours]
        teacher.follow(*student, momentum=0.9 + 0.01 * step)
        plain.move_teacher(expected, before, 0.9 + 0.01 * step)
        assert all(torch.equal(a, b) for a, b in zip(ours, before, strict=True))
    torch.testing.assert_close(list(map(torch.Tensor.detach, teacher.parameters())), expected)


def test_statistics_are_never_copied():
    student = parts()
    teacher = Teacher(*student)
    norm, own = student[0][1], teacher.backbone[1]
    student[0](torch.randn(8, 3, 4, 4))
    assert norm.running_mean.any() and not own.running_mean.any()
    teacher.follow(*student, momentum=0.0)
    assert not own.running_mean.any()
    assert own.num_batches_tracked == 0


def test_it_has_its_own_statistics_in_training():
    model = tiny_model()
    model(random_views(3), random_geometry(3), mode="loss")
    student, teacher = model.backbone.norm, model.teacher.backbone.norm
    assert student.num_batches_tracked == teacher.num_batches_tracked == 2  # a view each
    assert not torch.allclose(student.running_mean, teacher.running_mean)


def test_it_is_a_copy_without_gradients():
    student = parts()
    teacher = Teacher(*student)
    assert not any(p.requires_grad for p in teacher.parameters())
    mine = {id(p) for p in teacher.parameters()}
    assert mine.isdisjoint(id(p) for part in student for p in part.parameters())
    assert all(p.requires_grad for part in student for p in part.parameters())


SWIN = dict(embed_dims=16, depths=(1, 1), num_heads=(1, 1), strides=(4, 2), out_indices=(1,))
SWIN |= dict(window_size=2, drop_rate=0.3, attn_drop_rate=0.3, drop_path_rate=0.6)
TIMM = dict(type="mmseg.TIMMBackbone", pretrained=False, drop_path_rate=0.6)


@pytest.mark.parametrize(
    ("library", "backbone"),
    [
        ("mmdet", dict(type="mmdet.SwinTransformer", **SWIN)),
        ("mmseg", dict(type="mmseg.SwinTransformer", **SWIN)),
        ("timm", dict(**TIMM, model_name="resnet10t")),
        ("timm", dict(**TIMM, model_name="test_convnext", drop_rate=0.3)),
        ("timm", dict(**TIMM, model_name="test_vit", img_size=64, attn_drop_rate=0.3)),
        ("torch", dict(type="SequentialEncoder")),
    ],
    ids=lambda value: value if isinstance(value, str) else value.get("model_name", value["type"]),
)
def test_it_is_a_function_of_the_images(library, backbone):
    """Dropout and stochastic depth are the student's alone, in whatever encoder they are."""
    pytest.importorskip(library)
    pytest.importorskip("mmseg")
    torch.manual_seed(0)
    student = MODELS.build(backbone)
    with torch.no_grad():
        for p in student.parameters():  # so that every branch counts: some start at 0
            p.add_(0.1 * torch.randn_like(p))
    teacher = Teacher(student, nn.Identity(), nn.Identity())
    images = torch.randn(4, 3, 64, 64)
    assert not torch.equal(student(images)[-1], student(images)[-1])
    for _ in range(2):  # as it is built, and as the runner sets the mode for each epoch
        assert torch.equal(teacher(images)[0][-1], teacher(images)[0][-1])
        teacher.eval().train()
    norms = [part for part in teacher.modules() if isinstance(part, nn.BatchNorm2d)]
    assert teacher.training and all(norm.training for norm in norms)
    assert not any(norm.training for norm in teacher.eval().modules())


@MODELS.register_module(force=True)
class SequentialEncoder(nn.Sequential):
    """torchvision's and torch's own stochastic layers around a batch norm."""

    def __init__(self) -> None:
        stochastic = (StochasticDepth(0.5, "row"), nn.Dropout2d(0.5), nn.AlphaDropout(0.5))
        super().__init__(nn.Conv2d(3, 4, 8, 8), nn.BatchNorm2d(4), *stochastic)

    def forward(self, images):
        return (super().forward(images),)


@pytest.mark.parametrize("backbone", ["TinyEncoder", "TorchvisionResNet"])
def test_it_equals_the_student_after_initialization(backbone):
    """The runner initializes after the constructor: an early copy would keep the old weights."""
    config = tiny_config(
        backbone=dict(type=backbone),
        init_cfg=dict(type="Constant", layer="Conv2d", val=0.25, bias=0.5),
    )
    if backbone == "TorchvisionResNet":
        config["backbone"]["depth"] = 18
        config["neck"]["in_channels"] = 512
    model = MODELS.build(config)
    assert not torch.equal(model.neck.mlp[0].bias, torch.full((24,), 0.5))
    model.init_weights()
    assert torch.equal(model.neck.mlp[0].bias, torch.full((24,), 0.5))  # it did initialize
    for mine, theirs in zip(model.teacher.children(), model.student, strict=True):
        assert mine.state_dict().keys() == theirs.state_dict().keys()
        for name, value in theirs.state_dict().items():
            assert torch.equal(mine.state_dict()[name], value), name
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_the_model_moves_it_with_the_schedules_momentum():
    model = tiny_model()
    model.base_momentum = 0.9
    before = [p.clone() for p in model.teacher.parameters()]
    student = [p.detach() for part in model.student for p in part.parameters()]
    momentum = model.update_teacher(3, 10)
    assert momentum == teacher_momentum(3, 10, 0.9)
    plain.move_teacher(before, student, momentum)
    torch.testing.assert_close([p.detach() for p in model.teacher.parameters()], before)


def test_training_with_a_teacher_that_does_not_move_is_an_error():
    model = tiny_model()
    model.teacher_moves = False
    batch = random_views(2), random_geometry(2)
    with pytest.raises(RuntimeError, match=r"teacher was not moved.*TeacherHook"):
        model(*batch, mode="loss")
    model.eval()
    assert model(*batch, mode="loss")["loss_group"].isfinite()  # no training
    model.train()
    model.update_teacher(0, 10)
    assert model(*batch, mode="loss")["loss_group"].isfinite()
