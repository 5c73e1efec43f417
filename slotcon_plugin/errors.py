"""The errors that a user can cause and correct.

The command-line tools print them as one message without a traceback, so each message contains what
was found, what was expected and what to do. Any other exception is an error in the code and keeps
its traceback.
"""

import difflib
from collections.abc import Collection


class SlotConError(Exception):
    """Base of every error whose message is for the user."""


class DataError(SlotConError):
    """Images or labels that are missing, unreadable or unusable."""


class UnreadableFileError(DataError):
    """An image or labels that cannot be used, met only by the process that loads them."""


class ConfigError(SlotConError):
    """A config or a command-line option that cannot be used.

    Classes that a config builds raise ValueError for an argument out of range; the tools convert
    errors during the construction from a config to this.
    """


class CheckpointError(SlotConError):
    """A checkpoint that is missing, broken, or not safe to load."""


class TrainingStopped(SlotConError):
    """Training was stopped because continuing would waste time or destroy a good checkpoint."""


def did_you_mean(name: str, known: Collection[str]) -> str:
    """The end of a message about an unknown name: a similar name, or all if they are few."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f" Did you mean {close[0]}?"
    return f" There are: {', '.join(sorted(known))}." if 0 < len(known) <= 20 else ""
