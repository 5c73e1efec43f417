"""SlotCon, ResNet-18 at stride 16, 96 pixels: a small pretraining of fixed length, for a CPU.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288); this recipe is ours.
Command:  slotcon train slotcon_r18_small --data /my/images --epochs 30
Data:     some hundred images or more, named by --data or DATA_ROOT; at least 32.
Cost:     30 epochs of 701 images are 630 steps: 17 minutes on one CPU core.
Expected: on CamVid (701 images without labels), measured once, frozen encoder on test frames:
          dense retrieval 27.9 mIoU (random weights: 19.2), linear probe 27.7 mIoU (19.7).

As slotcon_r18_demo.py, with the paper's crops (at least 0.08 of the image), 32 prototypes, teacher
momentum 0.99 and lr 2.0 for a batch of 32, which follows the batch.
"""

_base_ = ["slotcon_r18_demo.py"]

model = dict(head=dict(prototypes=dict(num_prototypes=32)), teacher_momentum=0.99)
train_dataloader = dict(batch_size=32, dataset=dict(views=dict(size=96, scale=(0.08, 1.0))))
optim_wrapper = dict(optimizer=dict(lr=2.0))
auto_scale_lr = dict(base_batch_size=32)
train_cfg = dict(max_epochs=30)
