"""SlotCon, ResNet-18 at stride 16, small images: your own folder, a CPU, a first look.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288); this recipe is ours.
Command:  DATA_ROOT=/my/images slotcon train slotcon_r18_demo
          with 2 processes: slotcon train slotcon_r18_demo --gpus 2
Data:     any folder of images, searched to any depth, named by DATA_ROOT or by
          --cfg-options train_dataloader.dataset.source=PATH.
Cost:     1.5 s a step on 2 CPU cores; 100 epochs of 1,000 images are 6,200 steps. With fewer than
          16 images, --cfg-options +train_dataloader.sampler.rounds=N shows each N times an epoch.
Expected: groups that follow the regions of the images; nothing worth transferring.

What differs from the paper's recipe, and why:
- three stages of ResNet-18: stride 16, so that a view of 128 pixels has 8 x 8 positions to group;
- 16 prototypes and narrow layers: a few dozen images show few kinds of things;
- crops of at least a fifth of the image: 0.08 of a small image shows too little;
- teacher momentum 0.9: at 0.99 the teacher would lag behind by a hundred of a few hundred steps;
- lr 3.0 for a batch of 16: 48 times the paper's rule, for a training of a few hundred steps on a
  few dozen images. Longer trainings were not tried; the paper's rule gives lr=0.0625.
"""

_base_ = [
    "../_base_/models/slotcon_r50.py",
    "../_base_/datasets/unlabeled_images.py",
    "../_base_/schedules/lars_cosine_800e.py",
    "../_base_/pretrain_runtime.py",
]

model = dict(
    backbone=dict(depth=18, num_stages=3),
    neck=dict(in_channels=256, hidden_channels=512, out_channels=128),
    head=dict(
        prototypes=dict(num_prototypes=16, channels=128),
        predictor=dict(channels=128, hidden_channels=512),
    ),
    teacher_momentum=0.9,
)
train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    dataset=dict(
        source="{{$DATA_ROOT:data/images}}",
        views=dict(type="TwoViews", size=128, scale=(0.2, 1.0)),
    ),
)
optim_wrapper = dict(optimizer=dict(lr=3.0))
auto_scale_lr = dict(base_batch_size=16)
train_cfg = dict(max_epochs=100)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=10))
log_processor = dict(
    custom_cfg=[
        dict(data_src="time", method_name="mean", window_size=10),
        dict(data_src="data_time", method_name="mean", window_size=10),
    ]
)
