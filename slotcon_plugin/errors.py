"""The errors that a user can cause and repair.

The command-line tools print them as one message without a traceback, so each message says what
came, what was expected and what to do next. Anything else that is raised is a mistake of the code
and keeps its traceback.
"""


class SlotConError(Exception):
    """Base of every error whose message is meant for the user."""


class DataError(SlotConError):
    """Images that are missing, empty, or unreadable in too large a number."""


class ConfigError(SlotConError):
    """A config or a command-line option that cannot be used as it stands.

    Parts of a model that a config builds raise ValueError for an argument out of range, as classes
    do; the tools turn what is raised while a config is built into this.
    """


class CheckpointError(SlotConError):
    """A checkpoint that is missing, broken, or not safe to load."""


class TrainingStopped(SlotConError):
    """Training was stopped on purpose, because going on would waste time or spoil a good
    checkpoint."""
