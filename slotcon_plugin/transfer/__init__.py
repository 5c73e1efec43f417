"""Detection and segmentation from an encoder: backbones filled, data checked, configs fitted."""
