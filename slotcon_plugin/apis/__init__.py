"""What the commands in tools/ do, as functions with the same options.

Each is imported from its own module, because some need more libraries than others:

- `pretrain.pretrain`: pretraining on a folder of images, with fewer words than `train`
- `load.load`: a network for groups and features of images, a `trained_model.SlotConModel`
- `embed.embed`: vectors of whole images
- `plot_groups.plot_groups`: a picture of images and their groups
- `list_configs.list_configs`: the names of the configs
- `train.train`: pretraining, and training of detectors and segmentation networks
- `plan.plan`: what a training takes, from timed steps
- `test.test`: evaluation of detectors and segmentation networks
- `evaluate.evaluate`: unsupervised segmentation, k-means, nearest neighbors, linear probe
- `export.export`: encoder weights and checkpoints in other libraries' formats
- `visualize.visualize`: a page of images with their groups and prototypes
- `draw_groups.draw_groups`: a figure of groups before and after pretraining
- `demo.demo`: a short pretraining with figures
- `run_benchmark.run_benchmark`: pretrainings, transfers, evaluations and their tables
- `replay.replay`: a step again whose loss was not finite
- `train_detectron2.train_detectron2`: detectron2's own training from an exported encoder

`slotcon_plugin` has the first five and `evaluate` under their names: docs/python.md. All raise
`errors.SlotConError` for everything that a user can repair.
"""
