"""Which of Pillow's formats a file may be, so that a stranger's file reaches no decoder but the one of its kind."""

from __future__ import annotations

from pathlib import Path

from contrastive_cli.data.kinds import reads_avif

HEAD_BYTES = 64
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
AVIF_BRANDS = (b"avif", b"avis")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


class UnreadFormatError(ValueError):
    """A format that is known, and for which a library is missing."""


def formats_of(path: Path) -> tuple[str, ...]:
    """The formats that Pillow may take a file for: the known ones, or what the first bytes of a phone's file say."""
    with path.open("rb") as file:
        return formats_of_head(file.read(HEAD_BYTES))


def formats_of_head(head: bytes) -> tuple[str, ...]:
    """The same of the first HEAD_BYTES bytes of a file."""
    if head[4:8] != b"ftyp":
        return FORMATS
    brands = {head[8:12], *(head[place : place + 4] for place in range(16, min(len(head), head[3]), 4))}
    if brands & {*AVIF_BRANDS}:
        if not reads_avif():
            raise UnreadFormatError("an AVIF picture needs a Pillow that was built with AVIF: pip install -U pillow")
        return ("AVIF",)
    if brands & {*HEIF_BRANDS}:
        try:
            import pillow_heif
        except ImportError:
            raise UnreadFormatError("a HEIC picture needs the extra: pip install 'contrastive-cli[heic]'") from None
        pillow_heif.register_heif_opener()
        return ("HEIF",)
    return FORMATS
