"""A checksum of an exported file within itself, so that a flipped bit is found and not answered.

It stands in the file's metadata, after the size of the file. A file of another size was changed by
a tool that knew what it did, such as an optimizer, and is left to that. A flip within the
checksum's own entry may go unseen, where it does no harm.
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


def check_whole(path: Path) -> None:
    """Raise `InputError` if a file has a checksum for its size and is not what it says."""
    if not path.is_file():
        return
    content = path.read_bytes()
    at = content.rfind(KEY.encode())
    # Between the key and its value stand the two bytes that protocol buffers need.
    start = at + len(KEY) + 2
    noted = content[start : start + len(PLACEHOLDER)]
    if at < 0 or not noted.startswith(f"{len(content):0{_SIZE}} ".encode()):
        return
    blank = content[:start] + PLACEHOLDER.encode() + content[start + len(PLACEHOLDER) :]
    if noted[_SIZE + 1 :] != hashlib.sha256(blank).hexdigest().encode():
        raise expected(
            path, "a damaged file (its checksum does not hold)", "a whole ONNX network",
            "export or copy it anew",
        )  # fmt: skip
