"""Describe why a request to a receiver failed, in our own words: nothing that a receiver has sent is kept or shown.

A webhook's URL may lead to a program that is no HTTP server; its greeting or error must not be disclosed here.
"""

from __future__ import annotations

import os
import ssl

import httpcore2

_MOST_DETAIL = 300
_NO_ANSWER = "the connection was closed before there was an answer"
_NO_HTTP = "the reply is not HTTP/1.1"


def explain_failure(error: Exception) -> str:
    """Return why there was no answer: by the class of the error, or with the operating system's message."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    for one in chain:
        if isinstance(one, ssl.SSLCertVerificationError):
            return printable(f"its certificate is not accepted: {one.verify_message}")
        if isinstance(one, ssl.SSLError):
            return printable(f"TLS failed: {one.reason or 'no reason given'}")
    if isinstance(error, httpcore2.RemoteProtocolError):  # its text may quote the receiver
        return _NO_HTTP if _has_reply(error) else _NO_ANSWER
    for one in chain:
        if isinstance(one, OSError) and one.errno:
            return os.strerror(one.errno)
    if isinstance(error, httpcore2.ReadError | httpcore2.WriteError):
        return _NO_ANSWER
    if isinstance(error, OSError | UnicodeError):  # from the name lookup
        return printable(str(error) or type(error).__name__)
    return type(error).__name__


def printable(text: str) -> str:
    """Return the text without control characters, cut to what a failure may hold."""
    return text.encode("unicode_escape").decode()[:_MOST_DETAIL]


def _has_reply(error: httpcore2.RemoteProtocolError) -> bool:
    return not str(error).startswith("Server disconnected without")
