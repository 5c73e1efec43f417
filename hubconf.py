"""Entry points for torch.hub: `torch.hub.load(CLONE, ENTRY, source="local", checkpoint=FILE)`.

ENTRY is `encoder`, `slotcon`, or the name of a pretraining's config, such as `slotcon_r50_coco`.
No code in a checkpoint is run.
"""

dependencies = ["torch", "torchvision", "mmengine", "numpy", "PIL", "psutil"]


def encoder(checkpoint, part=None):
    """The encoder of a checkpoint, an exported file or a model folder, in evaluation mode.

    It is a torch.nn.Module from normalized RGB images (b, 3, h, w) to a tuple of feature maps
    (b, c, h / s, w / s). `part` is "teacher" (the default) or "student".
    """
    return slotcon(checkpoint, part).encoder


def slotcon(checkpoint, part=None, device="cpu"):
    """`slotcon_plugin.load`: groups and features of images, with the weights of a checkpoint."""
    from slotcon_plugin import load

    return load(checkpoint, part, device)


def _entry(name):
    def entry(checkpoint=None, part=None, device="cpu"):
        from slotcon_plugin import load
        from slotcon_plugin.apis.load import load_untrained
        from slotcon_plugin.checkpoints.names import differences
        from slotcon_plugin.errors import CheckpointError

        if checkpoint is None:
            return load(name, part, device)
        model = load(checkpoint, part, device)
        untrained = load_untrained(name, None, prototypes=model.num_prototypes)
        states = (network.state_dict() for network in (model.network, untrained))
        if problems := differences(*states):
            raise CheckpointError(
                f"{checkpoint} is not a checkpoint of {name}. Tensors: {problems}. The entry "
                "`slotcon` loads any checkpoint, `encoder` any encoder."
            )
        return model

    entry.__doc__ = f"The model of the config {name}: of a checkpoint of it, or untrained."
    return entry


def _entries():
    from slotcon_plugin.runtime.config_files import config_names

    names = (name for name, file in config_names().items() if file.parent.name == "pretrain")
    return {name: _entry(name) for name in names}


globals().update(_entries())
