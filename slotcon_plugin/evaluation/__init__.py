"""Evaluation of frozen networks, without fine-tuning; see `slotcon_plugin.apis.evaluate`.

The evaluations are functions (network, train, test, loader, options...) -> results: `network` is a
`batches.Network` on the device of `loader`, train and test are datasets, and the results are plain
values, with scores in percent.
"""
