"""What reading a file may raise that is not what it says it is."""

from __future__ import annotations

import pickle
import struct
import tarfile
import tokenize
import zipfile
import zlib
from typing import Final

TORCH_LOAD_ERRORS: Final = (
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    NameError,
    OSError,
    RuntimeError,  # and with it RecursionError and NotImplementedError
    StopIteration,
    SyntaxError,
    TypeError,
    ValueError,  # and with it UnicodeError
    struct.error,
    tarfile.TarError,  # of what is read as the format of torch 0.1
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""All that `torch.load` is known to raise over content that it did not write; it makes no promise."""
