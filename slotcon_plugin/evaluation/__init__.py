"""What a pretraining learned, seen without fine-tuning. `tools/evaluate.py` is its door.

==============  ============================================================================
`networks`      the frozen networks: an encoder from anywhere, or SlotCon's grouping
`batches`       labeled images in batches, shared among processes, with progress
`segmentation`  prototypes or k-means clusters against classes
`memory`        nearest neighbors by plain torch; by faiss in `faiss_memory`
`retrieval`     dense nearest-neighbor retrieval
`probe`         a linear classifier of every pixel
`knn`           nearest-neighbor classification of whole images
`report`        results as tables and as JSON
==============  ============================================================================
"""
