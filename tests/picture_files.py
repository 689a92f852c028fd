"""Pictures that Pillow cannot write: PNG of 16-bit color with every filter of rows."""

from __future__ import annotations

import struct
import zlib

import numpy as np

COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def png_16(values: np.ndarray, *, significant_bits: int | None = None) -> bytes:
    """A PNG of [H, W, 1 to 4] uint16, whose rows are filtered in turn by none, left, up, mean and Paeth."""
    height, width, bands = values.shape
    step = 2 * bands
    rows = np.frombuffer(values.astype(">u2").tobytes(), np.uint8).reshape(height, -1).astype(int)
    data, above = b"", np.zeros(rows.shape[1], int)
    for number, row in enumerate(rows):
        left = np.concatenate([np.zeros(step, int), row[:-step]])
        corner = np.concatenate([np.zeros(step, int), above[:-step]])
        guess = left + above - corner
        far = np.abs(guess - np.stack([left, above, corner]))
        paeth = np.where((far[0] <= far[1]) & (far[0] <= far[2]), left, np.where(far[1] <= far[2], above, corner))
        guesses = [np.zeros_like(row), left, above, (left + above) // 2, paeth]
        data += bytes([number % 5]) + ((row - guesses[number % 5]) % 256).astype(np.uint8).tobytes()
        above = row
    significant = b"" if significant_bits is None else chunk(b"sBIT", bytes([significant_bits] * bands))
    header = struct.pack(">IIBBBBB", width, height, 16, COLOR_TYPES[bands], 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + significant + body


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def pnm_16(values: np.ndarray, *, largest: int) -> bytes:
    """A PGM or PPM of [H, W, 1 or 3]."""
    height, width, bands = values.shape
    return f"P{5 if bands == 1 else 6}\n# made\n{width} {height}\n{largest}\n".encode() + values.astype(">u2").tobytes()
