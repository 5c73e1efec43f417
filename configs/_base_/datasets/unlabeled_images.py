"""Images without labels, two views of each. A config adds `source` and, for a known dataset,
`preset`."""

train_dataloader = dict(
    batch_size=64,  # on each of 8 processes
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type="ImageSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="UnlabeledImages"),
)
