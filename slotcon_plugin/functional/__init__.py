"""Functions of tensors and numbers, without state: SlotCon's arithmetic."""
