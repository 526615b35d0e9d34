"""The exceptions of the package. A command turns a SpicError into one line on stderr and exit code 2."""


class SpicError(Exception):
    """Bad input from outside: the message says what is wrong, where, and what to do about it, in one line."""


class StreamError(SpicError):
    """Bytes that are not a valid stream for this receiver: truncated, altered, foreign, newer, other table or shape."""
