"""The language of the project: plain technical English, in the field's terms."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from kerasbn.cli.main import COMMANDS, cli

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*(ROOT / "kerasbn").rglob("*.py"), *(ROOT / "cli").glob("*.py")])
TEXTS = [ROOT / "README.md", *sorted((ROOT / ".github").glob("*.md"))]
FINDINGS = sorted((ROOT / "saved_models").rglob("findings.md"))

# Words that are no terms of this field, or mean something else in it, with what to say instead.
BANNED = {
    r"\babsorb\w*": "fold",
    r"\bpassages?\b|\bcrossings?\b": "pass-through layer",
    r"\bfaithful\w*": "parity",
    r"\bbatch.mates?\b|\bcompany\b": "batch composition",
    r"\bcrew\b": "process pool",
    r"\bsick\b": "diverged",
    r"\bworn\b|\bwear in\b": "randomized",
    r"\bresiduals?\b(?! (connection|block|network|branch))": "remaining BN nodes",
    r"answered? rightly|\b(is|are) right\b|\bget right\b": "correct, accuracy",
    r"\btell(s|ing)? of\b|\bwhoever\b|\bnobody\b": "plain words",
    r"validation (loss|accuracy|set|data)": "test loss, test accuracy",
    r"\bdigits a batch\b|\ba name a line\b": "batch size, one per line",
    r"\bcheck sums?\b": "checksum",
    r"\bbeside one another\b|\bcome to nothing\b|\bbrought to\b": "plain words",
    r"how the weights follow|what the initial kernels": "optimizer, random seed",
    r"\bcolour|\bgrey\b|normalis|neighbour|behaviour": "American spelling",
    r"\d \%": "a percent sign without a space",
}
# Only in what users read: a network may be a network of computers in the code.
BANNED_FOR_USERS = {
    r"(?<!neural )(?<!residual )(?<!no )\bnetworks?\b(?! connection)": "model",
    r"(?<!batch )(?<!group )\bnormalizations?\b(?! layer)": "BN layer, BN",
    r"\bpictures?\b": "image, plot, figure",
}


def problems(text: str, banned: dict[str, str]) -> list[str]:
    """The banned words in a text, with their surroundings."""
    text = " ".join(text.split())
    return [
        f"...{text[max(found.start() - 30, 0) : found.end() + 20]}... (say: {instead})"
        for pattern, instead in banned.items()
        for found in re.finditer(pattern, text, re.IGNORECASE)
    ]


def prose_of(path: Path) -> Iterator[tuple[int, str]]:
    """The strings and comments of a source file, with their lines."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_source_uses_the_terms_of_the_field(path: Path) -> None:
    found = [f"{line}: {each}" for line, text in prose_of(path) for each in problems(text, BANNED)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_uses_the_terms_of_the_field(name: str) -> None:
    context = click.Context(cli, info_name="kerasbn")
    command = cli.get_command(context, name) if name else cli
    assert command is not None
    help_text = command.get_help(click.Context(command, info_name=name))
    assert not problems(help_text, BANNED | BANNED_FOR_USERS)


@pytest.mark.parametrize("path", [*TEXTS, *FINDINGS], ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_use_the_terms_of_the_field(path: Path) -> None:
    prose = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", " ", path.read_text("utf-8"), flags=re.DOTALL)
    assert not problems(prose, BANNED | BANNED_FOR_USERS)
