"""The one error a user is meant to see: one line, then exit code 2."""

import os
import re

_USER = re.compile(r"(?<=://)[^/\s]*@")  # as in https://user:password@host
_SIGNED = re.compile(r"(?i)([?&](?:[a-z_-]*(?:token|key|signature|credential)|sig)=)[^&\s'\"]+")
_SECRET = re.compile(r"(?i)(?:^|_)(?:key|token|secret|password|passwd|pass)s?$")  # how variables that hold one end
_SHORTEST = 6  # letters; a shorter value is no secret, and would be cut out of words


class TsrError(Exception):
    """What went wrong, where (file, key or row), and what was expected, in one line.

    The command line prints it without a traceback and exits with code 2.
    """


def without_secrets(text: str) -> str:
    """Return a text with `***` for passwords and tokens in its URLs, and for what secret variables hold.

    What libraries and servers say may repeat a URL or a key that they were given.

    >>> without_secrets("https://me:p@ss@host/v1?a=1&token=abc is refused")
    'https://***@host/v1?a=1&token=*** is refused'
    """
    text = _SIGNED.sub(r"\1***", _USER.sub("***@", text))
    held = {value.strip() for name, value in os.environ.items() if _SECRET.search(name)}
    for value in sorted(held, key=len, reverse=True):
        if len(value) >= _SHORTEST:
            text = text.replace(value, "***")
    return text
