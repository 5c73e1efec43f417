"""Floor 0: pure tensor functions. They import torch, numpy and scipy, and hold SlotCon's
arithmetic; the optimizer's is in `optim.lars`.

==============  =======================================================================
`grouping`      cosine scores, active slots, attention pooling
`alignment`     inverse augmentation: RoIAlign as a mix of four pixels
`losses`        grouping loss, its center, slot loss
`schedules`     learning rate and teacher momentum, in closed form
`collectives`   what processes exchange; the identity on one process
`diagnostics`   what is logged beside the losses
`matching`      clusters against classes: counts, matchings, accuracy and IoU
`dense`         from score maps to one answer a pixel, and labels to shares of a cell
`kmeans`        clusters of directions
`neighbors`    answers by the nearest of a memory
`crops`         geometry of the two views
`shapes`        the check at the door of the functions above
`precision`     keeps the functions above out of mixed precision
==============  =======================================================================
"""
