"""The words of C libraries, of Pillow's warnings and of its log are kept away from the terminal."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_decoders() -> Iterator[None]:
    """Keep C libraries, Pillow's warnings and its log away from the terminal for a whole pass over files.

    libtiff and libjpeg write to file descriptor 2 directly. Python's own `sys.stderr` still reaches the user.
    """
    logger = logging.getLogger("PIL")
    level = logger.level
    with warnings.catch_warnings(), _descriptor_2_to_null():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)


@contextlib.contextmanager
def _descriptor_2_to_null() -> Iterator[None]:
    try:
        saved = os.dup(2)
    except OSError:  # closed by the caller: nothing can be written there anyway
        yield
        return
    stream = sys.stderr
    with contextlib.suppress(OSError, ValueError, AttributeError):
        stream.flush()
        if stream.fileno() == 2:  # a progress bar keeps the terminal, through the duplicate
            sys.stderr = os.fdopen(os.dup(saved), "w", buffering=1, encoding=stream.encoding, errors=stream.errors)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        if sys.stderr is not stream:
            sys.stderr.close()
            sys.stderr = stream
