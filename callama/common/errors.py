"""The two ways a user can be told that something is wrong.

The command line turns both into one message without a traceback; anything else that escapes is a
bug of ours and keeps its traceback.
"""


class CallamaError(Exception):
    """Work that could not be done: a damaged file, data that contradicts itself. Exit status 1.

    The message says what was found, what was expected, where, and what to do next.
    """


class UsageError(CallamaError):
    """A command that could not have worked: a missing file, an unknown key. Exit status 2."""
