"""The one error a user is meant to see: one line, then exit code 2."""


class TsrError(Exception):
    """What went wrong, where (file, key or row), and what was expected, in one line.

    The command line prints it without a traceback and exits with code 2.
    """
