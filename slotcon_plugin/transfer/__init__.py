"""Detection and segmentation with a pretrained backbone: weights, data checks, configs."""
