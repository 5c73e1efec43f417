"""Evaluation of frozen networks, without fine-tuning; see `slotcon_plugin.apis.evaluate`.

=========================== ====================================================================
`networks`                  frozen networks: an encoder, or SlotCon's grouping
`batches`                   loading images, in several processes, with progress bars
`labeled_images`            images with pixel labels, in the formats of `label_formats`
`matching`                  cluster-to-class matching
`segmentation_scores`       accuracy and IoU
`unsupervised_segmentation` prototypes or k-means clusters against classes
`retrieval`                 dense nearest-neighbor retrieval
`probe`                     a linear classifier of every pixel
`knn`                       nearest-neighbor classification of whole images
`evaluation_report`         results as tables and as JSON
=========================== ====================================================================

The evaluations are functions (network, train, test, loader, options...) -> results: `network` is a
`batches.Network` on the device of `loader`, train and test are datasets, and the results are plain
values, with scores in percent.
"""
