"""LARS as SlotCon uses it, and its learning-rate schedule."""
