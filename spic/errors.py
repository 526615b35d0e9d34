"""The exceptions of the package. A command turns a SpicError into one line on stderr and exit code 2."""


class SpicError(Exception):
    """Bad input from outside: the message says what is wrong, where, and what to do about it, in one line."""

    def __str__(self) -> str:
        """In one line whatever it quotes: a file's name may hold line breaks."""
        return " ".join(super().__str__().splitlines())


class StreamError(SpicError):
    """Bytes that are not a valid stream for this receiver: truncated, altered, foreign, newer, other table or shape."""


def reason(error: BaseException) -> str:
    """What another library's exception says, in one short line."""
    lines = str(error).splitlines()
    return lines[0][:160] if lines else type(error).__name__
