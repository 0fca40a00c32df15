"""A checksum of an exported file within itself, so that a flipped bit is found and not answered.

It stands in the file's metadata, after the size of the file. A file of another size was written by
another tool, such as an optimizer, and is left to that; a flip that makes a file look so is in the
checksum's own entry, where it does no harm.
"""

import hashlib
from pathlib import Path

from kerasbn.errors import expected

KEY = "kerasbn.checksum"
_SIZE, _SUM = 12, 64
PLACEHOLDER = "0" * _SIZE + " " + "0" * _SUM


def with_checksum(content: bytes) -> bytes:
    """The content of a file that has `PLACEHOLDER` in it once, with the checksum in its place."""
    found = f"{len(content):0{_SIZE}} {hashlib.sha256(content).hexdigest()}"
    return content.replace(PLACEHOLDER.encode(), found.encode())


def is_altered(path: Path) -> bool | None:
    """Whether a file is other than kerasbn wrote it; None if it has no checksum for its size."""
    content = path.read_bytes()
    at = content.rfind(KEY.encode())
    # Between the key and its value stand the two bytes that protocol buffers need.
    start = at + len(KEY) + 2
    end = start + len(PLACEHOLDER)
    noted = content[start:end]
    if at < 0 or not noted.startswith(f"{len(content):0{_SIZE}} ".encode()):
        return None
    sums = hashlib.sha256()
    for part in (memoryview(content)[:start], PLACEHOLDER.encode(), memoryview(content)[end:]):
        sums.update(part)
    return noted[_SIZE + 1 :] != sums.hexdigest().encode()


def check_whole(path: Path) -> None:
    """Raise `InputError` if a file is other than kerasbn wrote it."""
    if path.is_file() and is_altered(path):
        raise expected(
            path, "a file that was altered or damaged (its checksum does not hold)",
            "an ONNX network as it was exported", "export or copy it anew",
        )  # fmt: skip
