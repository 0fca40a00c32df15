"""Damage to bytes, to JSON and to lines of text. All choices come from one `Random`."""

import json
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from random import Random
from typing import Any

Damage = Callable[[Random, bytes], bytes]

INTEGERS = (
    *(-1, 0, 1, 2, 3, 7, 27, 255, 256, 65_535, 65_536, 10**6, 2**31 - 1, 2**31, 2**32 - 1, 2**32),
    *(
        2**40,
        2**53 + 1,
        2**62,
        2**63 - 1,
        2**63,
        2**64 - 1,
        2**64,
        -(2**31),
        -(2**63),
        -(2**63) - 1,
    ),
    10**30,
)
FLOATS = (0.0, -0.0, 0.5, -1.5, 1e-300, 5e-324, 1e308, -1e308, 1e16)
TEXTS = (
    *("", " ", "a", "0", "-1", "nan", "None", "true", "x" * 3000, "a\nb", "a\rb", "\x85", "\u2028"),
    *(
        "\x1b[31mred",
        "\0",
        "\u202e",
        "é",
        "💥",
        "..",
        "../x",
        "/dev/zero",
        "a/b",
        "%s",
        "{0}",
        "$x",
    ),
    *("'", '"', "<b>", "[bold]", "</script>", "NaN", "1e999", "9" * 5000, "float64", "object"),
)
# JSON that `json.dumps` would not write.
RAW = (
    *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400, "1" + "0" * 6000),
    *('"\\ud800"', "01", "+1", ".5", "'a'", "nul", "", '{"a":1,"a":2}', "[1,]", "\ufeff", "\0"),
    *("[" * n + "]" * n for n in (10, 49, 200, 5000)),
    *('{"a":' * n + "1" + "}" * n for n in (10, 49, 200, 5000)),
    "[" * 100_000,
)


def damage_bytes(random: Random, content: bytes) -> bytes:
    """Flip bits, cut, repeat, insert, or write an integer somewhere, preferably near an end."""
    damaged = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        at = _position(random, len(damaged))
        match random.randrange(8):
            case 0 | 1 if damaged:
                damaged[at] ^= 1 << random.randrange(8)
            case 2 if damaged:
                damaged[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
            case 3:
                size, order = random.choice((1, 2, 4, 8)), random.choice(("little", "big"))
                number = random.choice(INTEGERS) % 256**size
                damaged[at : at + size] = number.to_bytes(size, order)
            case 4:
                del damaged[at : at + random.choice((1, 4, 64, 4096))]
            case 5:
                damaged[at:at] = random.randbytes(random.choice((1, 4, 64)))
            case 6:
                start, size = _position(random, len(damaged)), random.choice((1, 8, 256))
                damaged[at:at] = damaged[start : start + size]
            case _:
                if random.random() < 0.3:
                    del damaged[at:]
    return bytes(damaged)


def splice(random: Random, contents: Sequence[bytes]) -> bytes:
    """Return the beginning of one content and the end of another."""
    first, second = random.choice(contents), random.choice(contents)
    return first[: random.randrange(len(first) + 1)] + second[random.randrange(len(second) + 1) :]


def damage_json(random: Random, content: bytes) -> bytes:
    """Change values, keys and the order of some places of a JSON text."""
    tree: Any = json.loads(content)
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        tree = damage_tree(random, tree)
    return write_json(random, tree)


def write_json(random: Random, tree: Any) -> bytes:
    """Return a tree as JSON, with what `damage_tree` put in as raw text, sometimes damaged more."""
    text = json.dumps(tree)
    text = re.sub(r'"@raw(\d+)"', lambda found: RAW[int(found[1])], text)
    match random.randrange(40):
        case 0:
            return text.encode("utf-16", "surrogatepass")
        case 1:
            return b"\xef\xbb\xbf" + text.encode()
        case 2:
            return damage_bytes(random, text.encode("utf-8", "surrogatepass"))
        case 3:
            return (text + random.choice(("}", " ", "\0", "[]", text))).encode()
    return text.encode("utf-8", "surrogatepass")


def damage_tree(random: Random, tree: Any) -> Any:
    """Change one place of a tree of dicts and lists in place; return the tree, or a new one."""
    places = _places(tree)
    if not places or random.random() < 0.02:
        return odd_value(random, tree)
    holder, key = random.choice(places)
    value = holder[key]
    match random.randrange(10):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder[key:key] = [value] * random.choice((1, 1, 2, 500))
        case 1:
            name = random.choice((*TEXTS, str(key) + "_", str(key).upper(), "k" * 70_000))
            holder[name] = holder.pop(key)
        case 2:
            other, there = random.choice(places)
            holder[key], other[there] = deepcopy(other[there]), deepcopy(value)
        case 3:
            other, there = random.choice(places)
            holder[key] = deepcopy(other[there])
        case 4 if isinstance(holder, dict):
            holder[random.choice(TEXTS)] = odd_value(random, value)
        case _:
            holder[key] = odd_value(random, value)
    return tree


def odd_value(random: Random, value: Any) -> Any:
    """Return a value in the place of another: of its kind but odd, or of another kind."""
    if random.random() < 0.5:
        if isinstance(value, bool):
            return random.choice((not value, int(value), str(value), None))
        if isinstance(value, int | float):
            near: tuple[Any, ...] = (
                value + 1,
                value - 1,
                -value,
                value * 1000,
                value / 2,
                str(value),
                [value],
            )
            return random.choice((*near, *INTEGERS, *FLOATS))
        if isinstance(value, str):
            near = (value + " ", value.upper(), value[:-1], value * 2, [value], value + "\n")
            return random.choice((*near, *TEXTS))
    others: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], {"": None})
    kinds = (INTEGERS, FLOATS, TEXTS, others, [f"@raw{i}" for i in range(len(RAW))])
    return random.choice(random.choice(kinds))


def damage_lines(random: Random, content: bytes) -> bytes:
    """Change, drop, repeat and reorder lines of a text, and words and numbers in them."""
    lines = content.decode().split("\n")
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        if not lines:
            break
        at = random.randrange(len(lines))
        match random.randrange(9):
            case 0:
                del lines[at]
            case 1:
                lines[at:at] = [lines[at]] * random.choice((1, 2, 300))
            case 2:
                other = random.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            case 3:
                lines[at] += random.choice((",", ",,,", "=", "]", "[", '"', "#", "\t", "\r", "\0"))
            case 4:
                lines.insert(at, random.choice((*RAW, *TEXTS)))
            case 5:
                lines[at] = random.choice(
                    ("[a]", "[[a]]", "a.b.c = 1", "x = {", "'''", '"', ",,,,,")
                )
            case _:
                words = list(re.finditer(r"[^\s,=\[\]{}\"]+", lines[at]))
                if words:
                    word = random.choice(words)
                    new = random.choice((*map(str, (*INTEGERS, *FLOATS)), *TEXTS, *RAW))
                    lines[at] = lines[at][: word.start()] + new + lines[at][word.end() :]
    end = random.choice(("\n", "\n", "\n", "\r\n", "\r", "\x0c"))
    return end.join(lines).encode("utf-8", "surrogatepass")


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Return every (holder, key) of a tree."""
    found: list[tuple[Any, Any]] = []
    rest = [tree]
    while rest:
        holder = rest.pop()
        if isinstance(holder, dict | list):
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            found += [(holder, key) for key in keys]
            rest += [holder[key] for key in keys]
    return found


def _position(random: Random, size: int) -> int:
    """Return a position; half of the time it is near an end, where headers are."""
    if random.random() < 0.5:
        return random.randrange(size or 1)
    near = min(int(random.expovariate(1 / 40)), max(size - 1, 0))
    return near if random.random() < 0.7 else max(size - 1 - near, 0)
