"""Functions of tensors, without state. They contain SlotCon's arithmetic.

==============  ===============================================================================
`grouping`      cosine scores, active slots, attention pooling
`alignment`     inverse augmentation: RoIAlign as a mix of four pixels
`losses`        grouping loss, its center, slot loss
`schedules`     learning rate and teacher momentum, in closed form
`kernels`       fast versions of plain functions, with gradients written by hand
`collectives`   exchanges between processes; the identity on one process
`diagnostics`   numbers that are logged beside the losses
`crops`         geometry of the two views
`dense`         from small score maps to one class per pixel, and from labels to shares of cells
`kmeans`        clusters of unit vectors
`neighbors`     predictions by nearest neighbors
`population`    mean and variance of batches, exactly
`checks`        checks of arguments
`precision`     float32 inside mixed precision
==============  ===============================================================================
"""
