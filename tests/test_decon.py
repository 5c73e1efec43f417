"""With a decoder (DeCon): each level equals the reference, the teacher follows, dropout, errors."""

import copy

import pytest
import torch
from mmengine.registry import MODELS
from tiny_model import gradients, random_views, tiny_config
from torch import nn

from benchmarks.parity_models import PyramidEncoder
from benchmarks.plain_model import plain_level_losses, random_geometry
from benchmarks.processes import run_processes
from slotcon_plugin import reference as plain
from slotcon_plugin.errors import ConfigError
from slotcon_plugin.models.decoders import LateralDropout

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

EXACT = dict(rtol=1e-9, atol=1e-11)
NORM = dict(norm_cfg=dict(type="BN"))
FPN = dict(type="mmdet.FPN", in_channels=list(PyramidEncoder.CHANNELS), num_outs=4, **NORM)
FCN = dict(type="FCNConvolutions", in_channels=128, num_convs=2, dilation=2, channels=8, **NORM)


def neck(channels, **options):
    widths = dict(in_channels=channels, hidden_channels=24, out_channels=16)
    return dict(type="PixelProjector", **widths, **options)


def head(num_prototypes, **options):
    return tiny_config(num_prototypes)["head"] | options


def decon_config(**changes) -> dict:
    """A model's config: the records' pyramid and an FPN of 8 channels, its finest map alone."""
    return (
        dict(
            type="SlotCon",
            backbone=dict(type="ParityPyramidEncoder"),
            neck=neck(128),
            head=head(12, group_loss_weight=0.3),
            decoder=FPN | dict(out_channels=8),
            decoder_neck=neck(8),
            decoder_head=head(20, group_loss_weight=0.8),
        )
        | changes
    )


def decon(**changes) -> nn.Module:
    """The model, float64, with the teacher's weights apart from the student's."""
    torch.manual_seed(0)
    model = MODELS.build(decon_config(**changes)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
        model.teacher.start_equal(*model.student)
        for p in model.teacher.parameters():
            p.add_(0.1 * torch.randn_like(p))
        for level in model.levels:
            center = level.head.group_loss.center
            center.copy_(0.1 * torch.randn_like(center))
    model.expect_teacher_moves()
    return model


def total(losses):
    return sum(value for name, value in losses.items() if "loss" in name)


def levels_of(k_of_levels):
    return dict(decoder_head=[head(k) for k in k_of_levels])


MODELS_TRIED = {
    "FPN, finest map": dict(encoder_loss_weight=0.7),
    "FPN, every K apart": levels_of([9, 20, 7, 30]),
    "FPN, two maps": levels_of([9, 20]),
    "FCN": dict(decoder=FCN),
    "no encoder head": dict(encoder_loss_weight=0.0, **levels_of([9, 20])),
    "a neck of each level, recomputed": dict(
        decoder_neck=[neck(8), neck(8, recompute=True)], **levels_of([9, 20])
    ),
}


@pytest.mark.parametrize("changes", MODELS_TRIED.values(), ids=MODELS_TRIED)
def test_a_step_equals_the_reference(changes):
    model, views, geometry = decon(**changes), random_views(3, 64), random_geometry(3)
    reference = copy.deepcopy(model)
    losses = model(views, geometry, mode="loss")
    total(losses).backward()
    ((expected, results),) = plain_level_losses(reference, [(views, geometry)])
    expected.backward()

    torch.testing.assert_close(total(losses), expected, **EXACT)
    for level, (figures, center) in zip(model.levels, results, strict=True):
        weight = level.head.group_loss_weight * level.weight
        found = losses[f"loss_group{level.suffix}"]
        torch.testing.assert_close(found, weight * figures.group.sum(), **EXACT)
        torch.testing.assert_close(level.head.group_loss.center, center, **EXACT)
        assert min(figures.queries) > 1
    torch.testing.assert_close(gradients(model), gradients(reference), rtol=1e-7, atol=1e-10)
    for name, p in model.named_parameters():
        assert (p.grad is not None) == p.requires_grad == (not name.startswith("teacher.")), name
    statistics = {n: b for n, b in model.named_buffers() if ".running_" in n}
    theirs = {n: b for n, b in reference.named_buffers() if ".running_" in n}
    torch.testing.assert_close(statistics, theirs, **EXACT)


def test_the_weights_of_the_levels():
    four = MODELS.build(decon_config(encoder_loss_weight=0.2, **levels_of([4, 5, 6, 7])))
    assert [level.weight for level in four.levels] == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.2])
    assert [level.suffix for level in four.levels] == ["", "_dec0", "_dec1", "_dec2", "_dec3"]
    alone = MODELS.build(decon_config(encoder_loss_weight=0, neck=None, head=None))
    assert [level.weight for level in alone.levels] == [1]
    assert not any(name.startswith(("neck.", "head.")) for name in alone.state_dict())


def test_without_a_decoder_the_state_dict_has_no_other_names():
    config = decon_config(decoder=None, decoder_neck=None, decoder_head=None)
    names = MODELS.build(config).state_dict()
    parts = {name.removeprefix("teacher.").split(".")[0] for name in names}
    assert parts == {"backbone", "neck", "head", "prototypes", "idle_steps"}
    assert len(names["idle_steps"]) == 12


def test_output_convolutions_that_nothing_trains_do_not_exist():
    model = MODELS.build(decon_config(**levels_of([9, 20])))
    for part in ("decoder.", "teacher.decoder."):
        names = [name.removeprefix(part) for name in model.state_dict() if name.startswith(part)]
        assert {name[:11] for name in names if "fpn" in name} == {"fpn_convs.0", "fpn_convs.1"}
        assert len({name[:15] for name in names if "lateral" in name}) == 4


def test_the_teacher_has_and_follows_every_part():
    model = decon(**levels_of([9, 20]))
    model.init_weights()
    for own, theirs in zip(model.teacher.children(), model.student, strict=True):
        assert own.state_dict().keys() == theirs.state_dict().keys()
        for name, value in theirs.state_dict().items():
            assert torch.equal(own.state_dict()[name], value), name
    students = [p for part in model.student for p in part.parameters()]
    with torch.no_grad():
        for p in students:
            p.add_(torch.randn_like(p))
    expected = [p.clone() for p in model.teacher.parameters()]
    momentum = model.update_teacher(3, 10)
    plain.move_teacher(expected, [p.detach() for p in students], momentum)
    torch.testing.assert_close([p.detach() for p in model.teacher.parameters()], expected)
    predicted = len(list(model.parameters())) - len(students) - len(expected)
    assert predicted == sum(len(list(v.head.predictor.parameters())) for v in model.levels)


def test_prediction_on_each_level():
    model, images = decon(**levels_of([9, 20])).eval(), random_views(2, 64)[0]
    levels = ("encoder", 0, 1, None)
    shapes = [tuple(model.predict(images, level)[1].scores.shape) for level in levels]
    assert shapes == [(12, 2, 2), (9, 16, 16), (20, 8, 8), (9, 16, 16)]
    assert model(images, mode="predict")[0].scores.shape == (9, 16, 16)
    with pytest.raises(ConfigError, match="level 2: the model has encoder, 0, 1"):
        model.predict(images, 2)
    alone = decon(encoder_loss_weight=0.0)
    assert alone.predict(images)[0].scores.shape == (20, 16, 16)
    with pytest.raises(ConfigError, match="level encoder: the model has 0"):
        alone.predict(images, "encoder")
    assert model.encode(images).shape == (2, 128, 2, 2)


def test_each_level_is_diagnosed():
    model = decon(**levels_of([9, 200]))
    logged = model(random_views(3, 64), random_geometry(3), mode="loss")
    assert {name.removesuffix("_dec1") for name in logged if name.endswith("_dec1")} == {
        *("loss_group", "loss_slot", "prototypes_used", "prototypes_used_running"),
        *("active_slots", "feature_std", "assignment_entropy", "center_norm"),
    }
    assert len(logged) == 3 * 8
    for suffix, k, steps in zip(
        ("", "_dec0", "_dec1"), (12, 9, 200), model.idle_steps.split([12, 9, 200]), strict=True
    ):
        used = logged[f"prototypes_used{suffix}"].item() * k
        assert int((steps == 0).sum()) == pytest.approx(used)


# ---- dropout of the laterals --------------------------------------------------------------------


def laterals(part, maps):
    return [conv(m) for conv, m in zip(part.decoder.lateral_convs, maps, strict=True)]


def test_channels_of_laterals_are_dropped_in_student_and_teacher():
    model, whole = decon(lateral_channel_dropout=0.5), decon()
    maps = [m.detach() for m in model.backbone(random_views(8, 64)[0])]
    for part, other in ((model, whole), (model.teacher, whole.teacher)):
        *dropped, top = laterals(part, maps)
        *expected, expected_top = laterals(other, maps)
        torch.testing.assert_close(top, expected_top, **EXACT)
        for found, known in zip(dropped, expected, strict=True):
            zero_bc = (found == 0).all(dim=(2, 3))
            assert 0.3 < zero_bc.double().mean() < 0.7
            assert len({tuple(row) for row in zero_bc.tolist()}) > 1  # each image its own
            torch.testing.assert_close(found[~zero_bc], 2 * known[~zero_bc], **EXACT)
    model.eval(), whole.eval()
    for part, other in ((model, whole), (model.teacher, whole.teacher)):
        torch.testing.assert_close(laterals(part, maps), laterals(other, maps), rtol=1, atol=1)
        assert not any((m == 0).all(dim=(2, 3)).any() for m in laterals(part, maps))


def test_whole_laterals_are_dropped_each_level_on_its_own():
    model = decon(lateral_map_dropout=0.5)
    maps = [m.detach() for m in model.backbone(random_views(2, 64)[0])]
    for part in (model, model.teacher):
        zeros = [tuple(not m.any() for m in laterals(part, maps)) for _ in range(40)]
        assert len(set(zeros)) == 8 and not any(top for *_, top in zeros)
    kept = LateralDropout(maps=0.5)
    results = {kept(None, (), torch.ones(1, 1, 1, 1)).item() for _ in range(40)}
    assert results == {0.0, 1.0}  # not scaled


@pytest.mark.parametrize("option", ["lateral_channel_dropout", "lateral_map_dropout"])
def test_a_step_with_dropout_depends_on_the_seed_alone(option):
    def step(seed):
        model = decon(**{option: 0.5})
        torch.manual_seed(seed)
        return total(model(random_views(3, 64), random_geometry(3), mode="loss")).item()

    assert step(1) == step(1) != step(2)


# ---- errors -------------------------------------------------------------------------------------

WRONG = [
    (dict(encoder_loss_weight=1), ValueError, r"encoder_loss_weight is 1, .* in \[0, 1\)"),
    (dict(encoder_loss_weight=-0.1), ValueError, r"encoder_loss_weight is -0.1"),
    (dict(lateral_map_dropout=1), ValueError, r"lateral_map_dropout is 1, .* in \[0, 1\)"),
    (dict(lateral_channel_dropout="a"), ValueError, "lateral_channel_dropout is 'a'"),
    (
        dict(lateral_channel_dropout=0.5, lateral_map_dropout=0.5),
        ConfigError,
        "expected at most one of them",
    ),
    (dict(lateral_map_dropout=0.5, decoder=FCN), ConfigError, "no lateral convolutions"),
    (dict(decoder=None), ConfigError, "decoder is None, but decoder_neck, decoder_head"),
    (
        dict(decoder=None, decoder_head=None, decoder_neck=None, lateral_map_dropout=0.5),
        ConfigError,
        "or a lateral dropout is set",
    ),
    (
        dict(decoder_neck=[neck(8)] * 3),
        ConfigError,
        "decoder_neck has 3 entries and decoder_head 1",
    ),
]


@pytest.mark.parametrize(("changes", "error", "message"), WRONG)
def test_wrong_options(changes, error, message):
    with pytest.raises(error, match=message):
        MODELS.build(decon_config(**changes))


def test_more_heads_than_maps():
    model = decon(decoder=FCN, **levels_of([9, 20]))
    with pytest.raises(ConfigError, match="gives 1 maps, but there are heads for 2"):
        model(random_views(2, 64), random_geometry(2), mode="loss")


# ---- two processes ------------------------------------------------------------------------------


def batch_of(rank):
    return random_views(2 + rank, 64, seed=rank), random_geometry(2 + rank, seed=rank)


def train_on_two(rank):
    model = decon(**levels_of([9, 20]))
    wrapped = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    losses = wrapped(*batch_of(rank), mode="loss")
    total(losses).backward()
    centers = [level.head.group_loss.center for level in model.levels]
    return total(losses).item(), gradients(model), centers


def test_two_processes_equal_the_reference():
    reference = decon(**levels_of([9, 20]))
    expected = plain_level_losses(reference, [batch_of(rank) for rank in (0, 1)])
    (sum(value for value, _ in expected) / 2).backward()
    for (loss, grads, centers), (value, results) in zip(
        run_processes(train_on_two, 2), expected, strict=True
    ):
        assert loss == pytest.approx(value.item(), rel=1e-9)
        torch.testing.assert_close(grads, gradients(reference), rtol=1e-7, atol=1e-10)
        torch.testing.assert_close(centers, [center for _, center in results], **EXACT)
