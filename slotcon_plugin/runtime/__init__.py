"""Training under MMEngine: hooks, safe checkpoints, processes and precision. Floor 2."""
