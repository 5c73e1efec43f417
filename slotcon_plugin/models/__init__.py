"""The model (`slotcon.py`) and its parts."""
