"""What the segmentation datasets share: how they are read. Their own files add the images.

batch_size 2: for 8 GPUs; `slotcon train` divides total_batch_size among the processes.
"""

loading = dict(num_workers=4, persistent_workers=True, pin_memory=True)
train_dataloader = dict(batch_size=2, sampler=dict(type="InfiniteSampler", shuffle=True), **loading)
val_dataloader = dict(batch_size=1, sampler=dict(type="DefaultSampler", shuffle=False), **loading)
test_dataloader = val_dataloader
