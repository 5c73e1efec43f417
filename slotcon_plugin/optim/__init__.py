"""The optimizer, LARS as SlotCon uses it, and the learning-rate schedule."""
