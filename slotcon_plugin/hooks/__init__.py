"""MMEngine hooks: they decide when something happens, the model knows how."""
