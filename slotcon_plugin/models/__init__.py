"""The model and its parts. `slotcon.py` tells the algorithm; the other files hold what it is made
of."""
