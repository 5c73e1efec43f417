"""The model equals the reference: losses, every gradient, and whole training steps."""

import copy
import math

import pytest
import torch
from mmengine.registry import MODELS, OPTIMIZERS
from tiny_model import (
    TinyEncoder,
    brightness_model,
    gradients,
    random_views,
    tiny_config,
    tiny_model,
)
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.plain_model import plain_losses, random_geometry
from slotcon_plugin import reference as plain
from slotcon_plugin.errors import ConfigError
from slotcon_plugin.functional.alignment import ViewGeometry
from slotcon_plugin.functional.kernels import pixel_rows, resample

EXACT = dict(rtol=1e-9, atol=1e-11)


def move_to_one_side(model, student_rows, teacher_rows=None):
    """Move all features to one side, and only prototypes of these rows. Without `teacher_rows` the
    teacher does not change."""
    sides = [(model.neck, model.head.prototypes, student_rows)]
    if teacher_rows is not None:
        sides.append((model.teacher.neck, model.teacher.prototypes, teacher_rows))
    with torch.no_grad():
        for neck, prototypes, rows in sides:
            neck.mlp[6].bias[0] = 50
            prototypes.weight[:, 0] = -9
            prototypes.weight[rows, 0] = 9


def total(losses):
    return losses["loss_group"] + losses["loss_slot"]


def compare(model, views, geometry):
    """Compare one forward and backward pass with the reference; return the reference's losses."""
    reference = copy.deepcopy(model)
    losses = model(views, geometry, mode="loss")
    total(losses).backward()
    (expected,), center = plain_losses(reference, [(views, geometry)])
    expected.total.backward()

    weight = model.head.group_loss_weight
    torch.testing.assert_close(losses["loss_group"], weight * expected.group.sum(), **EXACT)
    torch.testing.assert_close(losses["loss_slot"], (1 - weight) * expected.slot.sum(), **EXACT)
    torch.testing.assert_close(model.head.group_loss.center, center, **EXACT)
    torch.testing.assert_close(gradients(model), gradients(reference), rtol=1e-7, atol=1e-10)
    for name, p in model.named_parameters():
        assert (p.grad is not None) == p.requires_grad == (not name.startswith("teacher.")), name
        assert p.grad is None or p.grad.isfinite().all(), name
    statistics = {n: b for n, b in model.named_buffers() if ".running_" in n}
    theirs = {n: b for n, b in reference.named_buffers() if ".running_" in n}
    torch.testing.assert_close(statistics, theirs, **EXACT)
    return expected


@pytest.mark.parametrize(
    ("batch", "num_prototypes", "size", "group_loss_weight"),
    [(3, 7, 32, 0.5), (3, 100, 32, 0.5), (2, 20, 64, 0.3), (1, 30, 40, 0.9)],
    ids=["few prototypes", "many prototypes", "64 pixels", "a batch of one"],
)
def test_a_step_equals_the_reference(batch, num_prototypes, size, group_loss_weight):
    model = tiny_model(num_prototypes=num_prototypes)
    model.head.group_loss_weight = group_loss_weight
    expected = compare(model, random_views(batch, size), random_geometry(batch))
    assert min(expected.queries) > 1
    assert expected.slot.min() > 0


def test_all_temperatures_are_used():
    config = tiny_config()
    config["head"]["group_loss"].update(
        student_temperature=0.2, teacher_temperature=0.05, center_momentum=0.6
    )
    config["head"]["slot_loss"].update(temperature=0.4)
    config["head"]["prototypes"].update(temperature=0.05)
    del config["type"]
    model = tiny_model(**config)
    compare(model, random_views(3), random_geometry(3))
    (element,) = model.eval()(random_views(1)[0], mode="predict")
    pixels = model.teacher.neck(model.teacher.backbone(random_views(1)[0]))
    (slots,) = plain.all_slots(pixels, element.scores[None], 0.05)
    torch.testing.assert_close(element.slots, slots, **EXACT)


@pytest.mark.parametrize("images", [[0], [0, 1, 2]], ids=["one", "all"])
def test_images_without_overlap(images):
    geometry = random_geometry(3)
    geometry.boxes[:, images] = 0
    model = tiny_model()
    expected = compare(model, random_views(3), geometry)
    if len(images) == 3:
        assert expected.group.tolist() == pytest.approx([math.log(12)] * 2)


def test_no_query_in_either_direction():
    model = tiny_model()
    move_to_one_side(model, [0, 1, 2, 3], [6, 7, 8])
    expected = compare(model, random_views(3), random_geometry(3))
    assert expected.queries == [0, 0]
    assert expected.slot.tolist() == [0, 0]
    assert not any(p.grad.any() for p in model.head.predictor.parameters())


def test_a_single_query_is_no_batch_for_the_predictor():
    model = tiny_model()
    move_to_one_side(model, [0], [0])
    expected = compare(model, random_views(1), random_geometry(1))
    assert expected.queries == [1, 1]
    assert expected.slot.tolist() == [0, 0]
    before = model.head.predictor.mlp[1].num_batches_tracked
    assert before == 0  # it did not run


def test_a_single_query_is_enough_where_the_predictor_needs_no_batch():
    model, views = tiny_model(), random_views(1)
    known = [plain.active_slots(model.teacher(view)[0].scores) for view in views]
    move_to_one_side(model, [min(known[0] & known[1])])
    model.head.predictor.eval()
    expected = compare(model, views, random_geometry(1))
    assert expected.queries == [1, 1]
    assert expected.slot.min() > 0


def test_queries_in_one_direction_only():
    """View 1 is bright and view 2 is dark; the teacher's prototypes of bright pixels are the
    student's of dark ones: only student's view 2 and teacher's view 1 have slots in common."""
    first, second, third = slice(0, 4), slice(4, 8), slice(8, 12)
    model = brightness_model(student=(first, second), teacher=(second, third))
    views = [view + shift for view, shift in zip(random_views(3), (9, -9), strict=True)]
    expected = compare(model, views, random_geometry(3))
    assert expected.queries[0] == 0
    assert expected.queries[1] > 1
    assert expected.slot[0] == 0 < expected.slot[1]
    assert any(p.grad.any() for p in model.head.predictor.parameters())


def test_training_equals_training_with_the_reference():
    """Four steps of teacher, losses, LARS, with the weights compared at the end."""
    model = tiny_model(num_prototypes=20)
    reference = copy.deepcopy(model)
    optimizer = OPTIMIZERS.build(
        dict(type="SlotConLARS", lr=1.0, weight_decay=1e-3),
        default_args=dict(params=[p for p in model.parameters() if p.requires_grad]),
    )
    params = [p for p in reference.parameters() if p.requires_grad]
    buffers = [torch.zeros_like(p) for p in params]
    students = [p for part in reference.student for p in part.parameters()]
    for step in range(4):
        views, geometry = random_views(3, seed=step), random_geometry(3, seed=step)
        momentum = model.update_teacher(step, 4)
        optimizer.zero_grad()
        total(model(views, geometry, mode="loss")).backward()
        optimizer.step()

        plain.move_teacher(list(reference.teacher.parameters()), students, momentum)
        (losses,), center = plain_losses(reference, [(views, geometry)])
        reference.zero_grad()
        losses.total.backward()
        reference.head.group_loss.center.copy_(center)
        plain.lars_step(params, buffers, lr=1.0, weight_decay=1e-3)
    ours, theirs = model.state_dict(), reference.state_dict()
    del ours["idle_steps"], theirs["idle_steps"]
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)
    assert not torch.allclose(
        ours["head.prototypes.weight"], tiny_model(num_prototypes=20).head.prototypes.weight
    )


def test_float32_is_near_float64():
    model = tiny_model(num_prototypes=40)
    views, geometry = random_views(3), random_geometry(3)
    exact = copy.deepcopy(model)(views, geometry, mode="loss")
    single = ViewGeometry(geometry.boxes.float(), geometry.flips)
    rough = model.float()([view.float() for view in views], single, mode="loss")
    for name in ("loss_group", "loss_slot"):
        assert rough[name].item() == pytest.approx(exact[name].item(), rel=2e-4)


def test_losses_are_float32_in_mixed_precision():
    model = tiny_model().float()
    views, geometry = [view.float() for view in random_views(3)], random_geometry(3)
    outside = copy.deepcopy(model)(views, geometry, mode="loss")
    with torch.autocast("cpu", torch.bfloat16):
        inside = model(views, geometry, mode="loss")
        total(inside).backward()
    for name in ("loss_group", "loss_slot"):
        assert inside[name].dtype == torch.float32
        assert inside[name].item() == pytest.approx(outside[name].item(), rel=0.1)
    assert all(g.isfinite().all() for g in gradients(model).values())


def test_mmengine_sums_the_losses_and_not_the_diagnostics():
    model = tiny_model()
    losses = model(random_views(3), random_geometry(3), mode="loss")
    summed, logged = model.parse_losses(losses)
    torch.testing.assert_close(summed, total(losses))
    diagnostics = {name for name in logged if "loss" not in name}
    assert diagnostics == {
        "prototypes_used",
        "prototypes_used_running",
        "assignment_entropy",
        "active_slots",
        "feature_std",
        "center_norm",
    }
    assert all(not logged[name].requires_grad and logged[name].isfinite() for name in diagnostics)


def test_diagnostics_by_counting():
    model = tiny_model(num_prototypes=200)
    views, geometry = random_views(3), random_geometry(3)
    reference, ever = copy.deepcopy(model), set()
    for step in range(2):
        logged = model(views, geometry, mode="loss")
        winners = [plain.active_slots(reference.teacher(view)[0].scores) for view in views]
        used = {slot % 200 for slots in winners for slot in slots}
        ever |= used
        assert logged["prototypes_used"].item() == pytest.approx(len(used) / 200)
        assert logged["prototypes_used_running"].item() == pytest.approx(len(ever) / 200)
        assert logged["active_slots"].item() == pytest.approx(sum(map(len, winners)) / 6)
        center = model.head.group_loss.center
        assert logged["center_norm"].item() == pytest.approx(center.norm().item())
        views = random_views(3, seed=step + 1)


def test_losses_in_evaluation_mode_change_no_state():
    model = tiny_model().eval()
    before = copy.deepcopy(model.state_dict())
    model(random_views(3), random_geometry(3), mode="loss")
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


class Agreement(nn.Module):
    """Another grouping loss: squared difference of the scores, without a center."""

    def __init__(self, num_prototypes):
        super().__init__()
        self.num_prototypes = num_prototypes

    def forward(self, student_scores, teacher_scores, alignments):
        aligned = [
            [resample(pixel_rows(s), *place) for place, s in zip(alignments, scores, strict=True)]
            for scores in (student_scores, teacher_scores)
        ]
        pairs = zip(aligned[0], reversed(aligned[1]), strict=True)
        return torch.stack([(s - t).square().mean() for s, t in pairs])

    def move_center(self, teacher_scores):
        pass

    def diagnose(self, teacher_scores):
        return {"best_score": torch.cat(teacher_scores).max()}


class Spread(nn.Module):
    """Another slot loss, without state."""

    def forward(self, student, teacher, predictor):
        return torch.stack(
            [predictor(v.features.mean(dim=(2, 3))).square().mean() for v in student]
        )


def test_losses_can_be_replaced():
    for part in (Agreement, Spread):
        MODELS.register_module(module=part, force=True)
    config = tiny_config()
    config["head"]["group_loss"] = dict(type="Agreement")
    config["head"]["slot_loss"] = dict(type="Spread")
    model = MODELS.build(config).double()
    model.init_weights()
    model.update_teacher(0, 10)
    losses = model(random_views(3), random_geometry(3), mode="loss")
    assert losses["best_score"] <= 1
    assert "center_norm" not in losses
    total(losses).backward()
    assert all(p.grad.any() for p in model.student[2].parameters())
    assert len(model.eval()(random_views(2)[0], mode="predict")) == 2


def build_with_attributes(**attributes):
    """A model whose encoder has these attributes, as other libraries' encoders have."""

    class OtherEncoder(TinyEncoder):
        pass

    for name, value in attributes.items():
        setattr(OtherEncoder, name, value)
    MODELS.register_module(module=OtherEncoder, force=True)
    return MODELS.build(tiny_config(backbone=dict(type="OtherEncoder")))


def test_an_encoder_with_stages_after_its_last_output_is_refused():
    with pytest.raises(ConfigError, match=r"out_indices=\(1, 2\).*set num_stages=3"):
        build_with_attributes(num_stages=4, out_indices=(1, 2))


@pytest.mark.parametrize(
    "attributes",
    [
        dict(num_stages=4, out_indices=(0, 3)),
        dict(num_stages=4, out_indices=(-1,)),
    ],
)
def test_an_encoder_that_is_trained_completely_is_accepted(attributes):
    assert build_with_attributes(**attributes).backbone.conv.weight.requires_grad


def test_tensor_gives_the_teachers_last_map():
    model = tiny_model().eval()
    images = random_views(2)[0]
    maps = model(images)
    assert maps.shape == (2, 16, 4, 4)
    assert not maps.requires_grad
    assert torch.equal(maps, model.teacher.backbone(images)[-1])
    assert not torch.allclose(maps, model.backbone(images)[-1])


def test_predict_gives_scores_assignment_and_slots():
    model = tiny_model().eval()
    images = random_views(2)[0]
    results = model(images, mode="predict")
    pixels = model.teacher.neck(model.teacher.backbone(images))
    scores = plain.score_maps(pixels, model.teacher.prototypes.weight)
    slots = plain.all_slots(pixels, scores, 0.07)
    assert len(results) == 2
    for element, scores_khw, slots_kd in zip(results, scores, slots, strict=True):
        torch.testing.assert_close(element.scores, scores_khw, **EXACT)
        torch.testing.assert_close(element.slots, slots_kd, **EXACT)
        assert torch.equal(element.assignment, scores_khw.argmax(dim=0))
        assert element.assignment.shape == (4, 4)
        assert not element.scores.requires_grad


def test_wrong_arguments_are_named():
    model = tiny_model()
    with pytest.raises(ValueError, match="mode is 'train', expected 'loss', 'tensor' or 'predict'"):
        model(random_views(1), random_geometry(1), mode="train")
    with pytest.raises(ValueError, match=r"flips_b has shape \(2,\), expected b = 3"):
        model(random_views(3), random_geometry(2)._replace(boxes=torch.zeros(2, 3, 4)), mode="loss")


WRONG_ARGUMENTS = [
    ("teacher_momentum", 1.5, r"a number in \[0, 1\]"),
    ("teacher_momentum", "0.99", "a number in"),
    ("head.group_loss_weight", 1.5, r"a number in \[0, 1\]"),
    ("head.group_loss.student_temperature", 0, r"a number in \(0, inf\)"),
    ("head.group_loss.teacher_temperature", "cold", r"a number in \(0, inf\)"),
    ("head.group_loss.center_momentum", -0.1, r"a number in \[0, 1\]"),
    ("head.slot_loss.temperature", math.nan, r"a number in \(0, inf\)"),
    ("head.prototypes.num_prototypes", 1, "an integer of at least 2"),
    ("head.prototypes.num_prototypes", "abc", "an integer of at least 2"),
    ("head.prototypes.channels", 16.0, "an integer of at least 1"),
    ("head.prototypes.temperature", math.inf, r"a number in \(0, inf\)"),
    ("head.predictor.channels", 0, "an integer of at least 1"),
    ("head.predictor.hidden_channels", "wide", "an integer of at least 1"),
    ("neck.in_channels", -1, "an integer of at least 1"),
    ("neck.hidden_channels", True, "an integer of at least 1"),
    ("neck.out_channels", None, "an integer of at least 1"),
]


@pytest.mark.parametrize(("path", "value", "expected"), WRONG_ARGUMENTS)
def test_parts_check_their_arguments(path, value, expected):
    config = tiny_config()
    *parents, name = path.split(".")
    part = config
    for parent in parents:
        part = part[parent]
    part[name] = value
    with pytest.raises(ValueError, match=f"{name} is {value!r}, expected {expected}"):
        MODELS.build(config)


def test_compiling_changes_no_name():
    normal, compiled = tiny_model(), tiny_model(compile=True)
    assert normal.state_dict().keys() == compiled.state_dict().keys()
    for part in (compiled.backbone, compiled.neck, compiled.teacher.backbone):
        assert part._compiled_call_impl is not None
    assert normal.backbone._compiled_call_impl is None


class Waits(TorchDispatchMode):
    """Collects operations whose result's size or value the host has to wait for."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masks = name.startswith("index") and any(
            isinstance(index, torch.Tensor) and index.dtype == torch.bool
            for arg in args
            if isinstance(arg, list | tuple)
            for index in arg
        )
        if masks or any(name.strip("_").startswith(known.strip("_")) for known in self.NAMES):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def test_the_host_waits_once_in_a_step(monkeypatch):
    """In a whole step: teacher, losses, gradients, LARS. It waits for the numbers of slots only."""
    lists = []
    read = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: lists.append(tensor) or read(tensor))
    model = tiny_model()
    optimizer = OPTIMIZERS.build(
        dict(type="SlotConLARS", lr=1.0),
        default_args=dict(params=[p for p in model.parameters() if p.requires_grad]),
    )
    views, geometry = random_views(3), random_geometry(3)
    with Waits() as waits:
        model.update_teacher(0, 10)
        total(model(views, geometry, mode="loss")).backward()
        optimizer.step()
    assert [name for name in waits.seen if name != "nonzero_static"] == []
    assert len(waits.seen) == 4  # queries and keys of two directions, of sizes already known
    assert [counts.shape for counts in lists] == [(6,)]


def test_the_check_above_finds_operations_that_wait():
    x, found = torch.randn(5), []
    for operation in (
        lambda: x.sum().item(),
        lambda: float(x[0]),
        lambda: bool(x[0] > 0),
        lambda: x[x > 0],
        lambda: x.nonzero(),
        lambda: x.unique(),
    ):
        with Waits() as waits:
            operation()
        found.append(bool(waits.seen))
    assert all(found)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_waits_for_the_gpu_once():
    model = tiny_model().cuda()
    views = [view.cuda() for view in random_views(3)]
    geometry = ViewGeometry(*(part.cuda() for part in random_geometry(3)))
    total(model(views, geometry, mode="loss")).backward()  # what happens on first use only
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with pytest.warns(UserWarning, match="synchronizing") as warned:
            total(model(views, geometry, mode="loss")).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sum("synchronizing" in str(w.message) for w in warned) == 1


def test_a_predictor_without_norms_counts_single_queries():
    model = tiny_model()
    move_to_one_side(model, [0], [0])
    model.head.predictor = nn.Linear(16, 16).double()
    losses = model(random_views(1), random_geometry(1), mode="loss")
    assert losses["loss_slot"].isfinite()
    assert losses["loss_slot"].requires_grad
