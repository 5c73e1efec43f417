"""detectron2's own Mask R-CNN, ResNet-50-FPN with synchronized batch norm, wrapped by mmdet.

A model on a CPU needs detector.device='cpu': `slotcon train` sets it.
"""

model = dict(
    type="Detectron2Wrapper",
    bgr_to_rgb=True,  # images are read as BGR; mean and std below are RGB's
    detector=dict(
        meta_architecture="GeneralizedRCNN",
        device="cuda",
        weights="",  # BackboneHook fills the backbone, strictly
        mask_on=True,
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
        backbone=dict(name="build_resnet_fpn_backbone", freeze_at=0),
        resnets=dict(
            depth=50,
            out_features=["res2", "res3", "res4", "res5"],
            norm="SyncBN",
            stride_in_1x1=False,
            res2_out_channels=256,
        ),
        fpn=dict(in_features=["res2", "res3", "res4", "res5"], out_channels=256, norm="SyncBN"),
        anchor_generator=dict(
            name="DefaultAnchorGenerator",
            sizes=[[32], [64], [128], [256], [512]],
            aspect_ratios=[[0.5, 1.0, 2.0]],
        ),
        proposal_generator=dict(name="RPN"),
        rpn=dict(
            in_features=["p2", "p3", "p4", "p5", "p6"],
            pre_nms_topk_train=2000,
            post_nms_topk_train=1000,
            pre_nms_topk_test=1000,
            post_nms_topk_test=1000,
        ),
        roi_heads=dict(
            name="StandardROIHeads",
            num_classes=80,
            in_features=["p2", "p3", "p4", "p5"],
            batch_size_per_image=512,
            score_thresh_test=0.05,
        ),
        roi_box_head=dict(
            name="FastRCNNConvFCHead",
            num_conv=4,
            num_fc=1,
            norm="SyncBN",
            pooler_resolution=7,
        ),
        roi_mask_head=dict(
            name="MaskRCNNConvUpsampleHead",
            num_conv=4,
            norm="SyncBN",
            pooler_resolution=14,
        ),
    ),
)
