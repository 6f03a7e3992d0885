"""The one error a user is meant to see: one line, then exit code 2."""

import logging
import os
import re
from typing import Any

_USER = re.compile(r"(?<=://)[^/\s]*@")  # as in https://user:password@host
_SIGNED = re.compile(r"(?i)([?&](?:[a-z_-]*(?:token|key|signature|credential)|sig)=)[^&\s'\"]+")
_SECRET = re.compile(r"(?i)(?:^|_)(?:key|token|secret|password|passwd|pass)s?$")  # how variables that hold one end
# What moves a terminal's cursor, colours it or turns the direction of its text: controls, and Unicode's own marks.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_SHORTEST = 6  # letters; a shorter value is no secret, and would be cut out of words

USER_IN_URL = re.compile(r"[^/\s]*//[^/\s]*@|[^/\s]+:[^/\s]*@")  # a user before a server's name in a URL, whole or not


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


def keep_secrets_from_logs() -> None:
    """Let what libraries log pass through `without_secrets`: a client that tries again names its URL, all of it."""
    made = logging.getLogRecordFactory()

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = made(*args, **kwargs)
        try:
            text = record.getMessage()
        except Exception:  # a message that does not fit its arguments is the logger's to complain of
            return record
        if (clean := without_secrets(text)) != text:
            record.msg, record.args = clean, ()
        return record

    logging.setLogRecordFactory(make)


def secret_in_url(url: str) -> str:
    """Return what a URL holds that may be a secret, in words that do not repeat it; empty where it holds nothing.

    >>> secret_in_url("https://me:pass@host/v1"), secret_in_url("https://host/v1")
    ('holds a user or password', '')
    """
    if "@" in url or USER_IN_URL.match(url):
        return "holds a user or password"
    return "holds more than a path, which may be a key" if set("?#") & set(url) else ""


def printable(text: str, keep: str = "") -> str:
    r"""Return a text that no terminal takes for orders: controls are written as JSON writes them, those in `keep` stay.

    What models and other people wrote may hold them.

    >>> print(printable("one\x1b[31m two\n\N{RIGHT-TO-LEFT OVERRIDE}"))
    one\u001b[31m two\u000a\u202e
    >>> printable("one\ttwo\n", keep="\t\n")
    'one\ttwo\n'
    """
    return _CONTROLS.sub(lambda found: found[0] if found[0] in keep else f"\\u{ord(found[0]):04x}", text)
