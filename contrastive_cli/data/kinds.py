"""Which files count as pictures: by their suffix, and where a name has none that says so, by their first bytes."""

from __future__ import annotations

import functools
import importlib.util
import re

SUFFIXES: tuple[str, ...] = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
)
AVIF_SUFFIXES = (".avif", ".avifs")
HEIF_SUFFIXES = (".heic", ".heif", ".hif", ".heics", ".heifs")
HEIC_EXTRA = 'pip install "contrastive-cli[heic]"'

# A suffix that says what a file is; "photo.1", "photo.jpg_large" and "photo.jpg?width=600" have none.
_PLAIN_SUFFIX = re.compile(r"\.(?=[0-9]*[a-z])[a-z0-9]{1,12}")
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # the sizes that a BMP's second header can have
FIRST_BYTES = 32


@functools.cache
def picture_suffixes() -> tuple[str, ...]:
    """The suffixes of the pictures that the installed libraries decode, in lower case."""
    found = SUFFIXES + AVIF_SUFFIXES if reads_avif() else SUFFIXES
    return found + HEIF_SUFFIXES if reads_heif() else found


@functools.cache
def reads_avif() -> bool:
    """Whether Pillow decodes AVIF, as it may from 11.3 on."""
    from PIL import features

    return "avif" in features.get_supported()  # an older one warns when it is asked for a name that it does not know


@functools.cache
def reads_heif() -> bool:
    """Whether the extra that decodes the pictures of telephones is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def is_picture_name(name: str) -> bool:
    """Whether the suffix of a file's name is that of a picture."""
    return name.lower().endswith(picture_suffixes())


def suffix_of(name: str) -> str:
    """The suffix in lower case that says what a file is; empty if there is none."""
    dot = name.rfind(".")
    suffix = name[dot:].lower() if dot > 0 else ""
    return suffix if _PLAIN_SUFFIX.fullmatch(suffix) else ""


def is_picture_content(path: str) -> bool:
    """Whether a file begins as a picture does that the installed libraries decode."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a million Path objects take a while
            return picture_format(file.read(FIRST_BYTES)) in _known_formats()
    except OSError:
        return False


def picture_format(start: bytes) -> str | None:
    """The format of a picture by the first 32 bytes of its file; None for everything else."""
    for begin, name in (
        (b"\xff\xd8\xff", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"GIF87a", "GIF"),
        (b"GIF89a", "GIF"),
    ):
        if start.startswith(begin):
            return name
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if start[:2] == b"BM" and int.from_bytes(start[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if re.match(rb"P[1-6]\s+(#|\d+\s)", start):
        return "PPM"
    if start[4:8] == b"ftyp":
        return {**dict.fromkeys(_AVIF_BRANDS, "AVIF"), **dict.fromkeys(_HEIF_BRANDS, "HEIF")}.get(start[8:12])
    return None


@functools.cache
def _known_formats() -> frozenset[str]:
    formats = {"JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"}
    if AVIF_SUFFIXES[0] in picture_suffixes():
        formats.add("AVIF")
    return frozenset(formats | {"HEIF"} if reads_heif() else formats)


def describe_kinds(kinds: dict[str, int]) -> str:
    """Counts by kind, the most frequent first, such as "8 .heic, 4 without suffix", with the way out if any."""
    counted = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count} {kind}" for kind, count in counted[:MOST_KINDS]]
    rest = sum(count for _, count in counted[MOST_KINDS:])
    text = ", ".join([*shown, *([f"{rest} of other kinds"] if rest else [])])
    if any(kind in HEIF_SUFFIXES for kind in kinds) and not reads_heif():
        text += f" (`{HEIC_EXTRA}` reads .heic)"
    return text


MOST_KINDS = 8
