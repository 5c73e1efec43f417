"""Groups, features and scores on each level of a pretraining with a decoder (DeCon)."""

import pytest
import torch
from mmengine.config import Config
from test_decoder_transfer import config_of, pretrained
from test_decoder_transfer import files as files

from slotcon_plugin.apis.load import load
from slotcon_plugin.errors import CheckpointError, ConfigError
from slotcon_plugin.evaluation.kinds import OPTIONS, open_network
from slotcon_plugin.evaluation.limits import find_limits
from slotcon_plugin.evaluation.networks import open_groups

UINT8 = torch.randint(0, 256, (2, 3, 64, 96), generator=torch.Generator().manual_seed(0)).byte()


@pytest.mark.parametrize("kind", ["deep", "fcn"])
def test_groups_equal_the_models(files, kind):
    model, path = pretrained(kind), files(kind)
    inputs = model.data_preprocessor(dict(inputs=UINT8))["inputs"]
    for level in ("encoder", *range(len(model.decoder_heads))):
        expected = torch.stack([one.scores for one in model.predict(inputs, level)])
        torch.testing.assert_close(open_groups(path, "teacher", level)(UINT8), expected)
    finest = torch.stack([one.scores for one in model.predict(inputs)])
    torch.testing.assert_close(open_groups(path)(UINT8), finest)
    _, slots = load(path).network.slots(UINT8)
    torch.testing.assert_close(slots, torch.stack([one.slots for one in model.predict(inputs)]))
    maps = model.teacher.decoder(model.teacher.backbone(inputs))
    for level in {0, len(model.decoder_heads) - 1}:
        options = OPTIONS["probe"] | dict(level=level)
        torch.testing.assert_close(open_network("probe", str(path), options)(UINT8), maps[level])
        found = open_network("knn", str(path), options | dict(projected=True))(UINT8)
        torch.testing.assert_close(found, model.teacher.decoder_necks[level]((maps[level],)))
    encoder = open_network("probe", str(path), OPTIONS["probe"])(UINT8)
    torch.testing.assert_close(encoder, model.teacher.backbone(inputs)[-1])


def test_a_decoder_of_another_class(files):
    """Its groups are drawn by the model, but a checkpoint's weights do not tell how to build it."""
    model, path = pretrained("another"), files("another")
    with pytest.raises(CheckpointError, match=r"PAFPN cannot be built .* --level encoder takes"):
        open_groups(path)
    assert open_groups(path, level="encoder")(UINT8).shape[1] == 8
    assert model.predict(model.data_preprocessor(dict(inputs=UINT8))["inputs"])[0].scores.shape[0]
    limits = find_limits(model, Config(dict(model=config_of("another"))), None)
    assert any("--level 0: the decoder is PAFPN" in one for one in limits)


def test_a_level_that_is_not_there(files):
    for level in (4, "3"):
        with pytest.raises(ConfigError, match=rf"level {level}: .*deep.pth has encoder, 0, 1"):
            open_groups(files("deep"), level=level)
    options = OPTIONS["probe"] | dict(level=1)
    with pytest.raises(ConfigError, match=r"level 1: the decoder, FPN of 4 lateral .* has 0"):
        open_network("probe", str(files("single")), options)
    with pytest.raises(ConfigError, match="--stage selects an encoder's map, --level a decoder's"):
        open_network("probe", str(files("single")), options | dict(stage=2))
    with pytest.raises(ConfigError, match="--output-stride is for an encoder's map, --level N for"):
        open_network("probe", str(files("single")), options | dict(level=0, output_stride=4))
    with pytest.raises(ConfigError, match="random:resnet18 has no decoder"):
        open_network("probe", "random:resnet18", options)
