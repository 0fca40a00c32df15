"""Damage that knows a binary format, so that what follows the checks of its outside is reached."""

import ast
import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from functools import cache
from random import Random
from typing import Any

from fuzz.damage import INTEGERS, TEXTS, Damage, damage_bytes

# Dimensions for arrays: plausible ones, and those that overflow, fill the memory, or are none.
SIZES = (0, 1, 2, 10, 28, 784, 10**4, 10**6, 10**9, 2**31, 2**40, 2**62, 2**63, 2**64, 10**30, -1)
DTYPES = (
    *("|O", "<f8", ">f4", "<f2", "|i1", "|u1", "<i8", "|b1", "<c16", "|V0", "|V8", "|S0", "|S9"),
    *(
        "<U0",
        "<U9",
        "<U100000000",
        "<M8[ns]",
        "<m8",
        "O",
        "",
        "f",
        "i,i",
        "<f8,<f4",
        "(2,2)f8",
        "x",
    ),
)
_NPY_DESCRIPTIONS: tuple[Any, ...] = (
    *([("a", "<f4")], [("a", "<f4", (2,))], [("a", "|O")], [("", "<f4")], [], {}, None, 0),
    *({"names": ["a"], "formats": ["f4"]}, ("<f4", (10**9,)), ["<f4"], [("a", [("b", "|O")])]),
)
_ZIP_FIELDS = {  # by signature: offset and size of each field
    b"PK\x03\x04": ((4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)),
    b"PK\x01\x02": (
        *((4, 2), (6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2)),
        *((34, 2), (38, 4), (42, 4)),
    ),
    b"PK\x05\x06": ((4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)),
}


def damage_idx(random: Random, content: bytes) -> bytes:
    """Change the magic number or an axis of an IDX file, gzipped or not."""
    if content[:2] == b"\x1f\x8b":
        inner = gzip.decompress(content)
        changed = damage_idx(random, inner)
        if random.random() < 0.01:
            changed += bytes(random.choice((10**4, 10**7)))
        return gzip.compress(changed, 1, mtime=0)
    damaged = bytearray(content)
    at = 4 * random.randrange(4)
    damaged[at : at + 4] = (random.choice(INTEGERS) % 2**32).to_bytes(4, "big")
    return bytes(damaged)


def damage_zip(inner: Mapping[str, Damage], random: Random, content: bytes) -> bytes:
    """Damage a member of an archive by the ending of its name, or members, or their headers."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(each, archive.read(each)) for each in archive.namelist()]
    at = random.randrange(len(members))
    name, data = members[at]
    kind = random.randrange(12)
    if kind == 0:
        del members[at]
    elif kind == 1:
        members.insert(random.randrange(len(members) + 1), (name, random.choice(members)[1]))
    elif kind == 2:
        new = random.choice(
            (*TEXTS, "../" + name, "/" + name, name.upper(), name + "/", "y" * 60000)
        )
        members[at] = (new.replace("\0", "0"), data)
    elif kind >= 5:
        ending = next((each for each in inner if name.endswith(each)), None)
        by_format = inner[ending] if ending is not None else damage_bytes
        members[at] = (name, (by_format if random.random() < 0.9 else damage_bytes)(random, data))
    stored, deflated = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
    how = random.choice((stored,) * 20 + (deflated,) * 4 + (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for each, data in members:
            archive.writestr(zipfile.ZipInfo(each), data, how)
    packed = bytearray(buffer.getvalue())
    if kind in (3, 4):
        signature = random.choice(list(_ZIP_FIELDS))
        starts = [i for i in range(len(packed)) if packed[i : i + 4] == signature]
        offset, size = random.choice(_ZIP_FIELDS[signature])
        start = random.choice(starts) + offset if starts else 0
        number = random.choice((*INTEGERS, 8, 9, 12, 14, 20, 45, 99)) % 256**size
        packed[start : start + size] = number.to_bytes(size, "little")
    return bytes(packed)


def damage_npy(random: Random, content: bytes) -> bytes:
    """Change the type, the shape or the header of an array, and leave its data."""
    length = int.from_bytes(content[8:10], "little")
    header, data = ast.literal_eval(content[10 : 10 + length].decode()), content[10 + length :]
    shape = list(header["shape"])
    match random.randrange(9):
        case 0 | 1:
            header["descr"] = random.choice(DTYPES)
        case 2:
            header["descr"] = random.choice(_NPY_DESCRIPTIONS)
        case 3 | 4 if shape:
            shape[random.randrange(len(shape))] = random.choice(SIZES)
            header["shape"] = tuple(shape)
        case 5:
            shape.insert(random.randrange(len(shape) + 1), random.choice((*SIZES, 1, 1)))
            header["shape"] = tuple(shape)
        case 6:
            odd = (None, 3, "a", [2, 2], (1.0,), ("a",), (True,), (1,) * 65, ((2,),), ())
            header["shape"] = random.choice(odd)
        case 7:
            key = random.choice(list(header))
            if random.random() < 0.5:
                header["fortran_order"] = random.choice((True, None, 1, "x", []))
            else:
                del header[key]
        case _:
            header[random.choice(TEXTS)] = 1
    text = repr(header)
    match random.randrange(30):
        case 0:
            text = random.choice(
                ("(" * 300, "{", "", "[" * 9000, "1", "{}", text[:-2], "x" * 20000)
            )
        case 1:
            text = text.replace("'", "b'")
        case 2:
            data = data[: random.randrange(len(data) + 1)]
    encoded = text.encode("latin-1", "replace")[:65_000] + b"\n"
    version = random.choice((1, 1, 1, 1, 2, 3, 4)) if random.random() < 0.2 else 1
    size = struct.pack("<H" if version == 1 else "<I", len(encoded))
    return b"\x93NUMPY" + bytes((version, 0)) + size + encoded + data


def damage_npz(random: Random, content: bytes) -> bytes:
    """Damage an archive of arrays."""
    return damage_zip({".npy": damage_npy}, random, content)


def damage_image(random: Random, content: bytes) -> bytes:
    """Change chunks of a PNG, segments of a JPEG, or header fields of another format."""
    if content[:4] == b"\x89PNG":
        return _damage_png(random, content)
    if content[:2] == b"\xff\xd8":
        return _damage_jpeg(random, content)
    damaged, order = bytearray(content), "big" if content[:2] == b"MM" else "little"
    size = random.choice((2, 4))
    at = random.choice(range(0, min(len(damaged), 120), 2))
    number = random.choice(INTEGERS) % 256**size
    damaged[at : at + size] = number.to_bytes(size, order)
    return bytes(damaged)


@cache
def _large_chunk() -> bytes:
    return zlib.compress(bytes(10**7))


def _damage_png(random: Random, content: bytes) -> bytes:
    chunks, at = [], 8
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += size + 12
    i = random.randrange(len(chunks))
    kind, data = chunks[i]
    match random.randrange(8):
        case 0:
            del chunks[i]
        case 1:
            chunks.insert(random.randrange(len(chunks) + 1), chunks[i])
        case 2 | 3 | 4:
            header = list(struct.unpack(">IIBBBBB", chunks[0][1]))
            field = random.randrange(7)
            sizes = (1, 2, 28, 1000, 9459, 10**5, 2**31 - 1, 2**32 - 1, 0)
            header[field] = random.choice(sizes if field < 2 else (0, 1, 2, 3, 4, 6, 8, 16, 255))
            chunks[0] = (b"IHDR", struct.pack(">IIBBBBB", *header))
        case 5:
            more = (b"tEXt", b"zTXt", b"iCCP", b"eXIf", b"tRNS", b"PLTE", b"acTL", b"fdAT", b"IDAT")
            data = random.choice((data, _large_chunk(), random.randbytes(40), b"a\0\0"))
            chunks.insert(random.randrange(1, len(chunks) + 1), (random.choice(more), data))
        case 6 if kind == b"IDAT":
            chunks[i] = (kind, zlib.compress(damage_bytes(random, zlib.decompress(data))))
        case _:
            chunks[i] = (kind, damage_bytes(random, data))
    return content[:8] + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _damage_jpeg(random: Random, content: bytes) -> bytes:
    damaged, starts, at = bytearray(content), [], 2
    while content[at] == 0xFF and content[at + 1] != 0xDA:
        starts.append(at)
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    start = random.choice(starts)
    size = int.from_bytes(content[start + 2 : start + 4], "big")
    frame = next(each for each in starts if content[each + 1] in (0xC0, 0xC2))
    match random.randrange(5):
        case 0:
            del damaged[start : start + 2 + size]
        case 1:
            damaged[start:start] = damaged[start : start + 2 + size]
        case 2:
            at = frame + random.choice((5, 7))  # height, width
            damaged[at : at + 2] = random.choice((0, 1, 1000, 9459, 65_535)).to_bytes(2, "big")
        case 3:
            damaged[start + 1] = random.randrange(0xC0, 0x100)
        case _:
            inside = damage_bytes(random, content[start + 2 : start + 2 + size])
            damaged[start + 2 : start + 2 + size] = inside
    return bytes(damaged)
