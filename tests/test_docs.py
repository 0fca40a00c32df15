"""The README agrees with `--help`. `python tests/test_docs.py` regenerates its tables."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import click
import pytest

from kerasbn.cli.main import COMMANDS, cli

README = Path(__file__).parent.parent / "README.md"


def command_of(name: str) -> click.Command:
    command = import_module(f"kerasbn.cli.{name}").command
    assert isinstance(command, click.Command)
    return command


def options_table() -> str:
    """Every option once, with the commands that take it; as a table in Markdown."""
    meanings: dict[str, dict[str, list[str]]] = {}  # name -> default and help -> commands
    for command in COMMANDS:
        for option in command_of(command).params:
            if isinstance(option, click.Option):
                same = meanings.setdefault(names_of(option), {})
                same.setdefault(f"{default_of(option)} | {option.help}", []).append(command)
    rows = ["| option | default | meaning | commands |", "| --- | --- | --- | --- |"]
    for name, ways in meanings.items():
        cells = [(*way.split(" | ", 1), ", ".join(commands)) for way, commands in ways.items()]
        columns = [
            "<br>".join(column if len(set(column)) > 1 else column[:1])
            for column in zip(*cells, strict=True)
        ]
        rows.append(f"| {name} | {' | '.join(columns)} |")
    return "\n".join(rows)


def names_of(option: click.Option) -> str:
    """The first cell of an option's row."""
    names = ", ".join(f"`{each}`" for each in option.opts)
    if option.secondary_opts:
        names += " / " + ", ".join(f"`{each}`" for each in option.secondary_opts)
    if isinstance(option.type, click.Choice):
        names += " " + " \\| ".join(map(str, option.type.choices))
    elif not option.is_flag:
        context = click.Context(click.Command("none"))
        names += f" {option.make_metavar(context)}".replace("|", "\\|")
    return names


def default_of(option: click.Option) -> str:
    if not option.show_default:
        return ""
    if option.secondary_opts:
        return f"`{(option.opts if option.default else option.secondary_opts)[0]}`"
    return f"`{option.default}`"


def examples_of(name: str) -> list[str]:
    """The examples in the help of a command."""
    text = (command_of(name).help or "").partition("Example:")[2]
    return [line.strip() for line in text.splitlines() if line.strip()]


GENERATED = {"options": options_table}


def generated(name: str) -> str:
    """A part of the README that is generated from help."""
    return f"<!-- {name} -->\n{GENERATED[name]()}\n<!-- end -->"


def blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", README.read_text(), re.M | re.S)


def commands_shown() -> list[list[str]]:
    """Every kerasbn command line in the shell blocks and tables of the README, and in help."""
    lines = [line for block in blocks() for line in block.splitlines()]
    lines += re.findall(r"\| `(kerasbn [^`]*)` \|", README.read_text())
    lines += [line for name in COMMANDS for line in examples_of(name)]
    parts = [part.strip(" &") for line in lines for part in re.split(r"&&|\|", line.split("#")[0])]
    return [shlex.split(part)[1:] for part in parts if part.startswith("kerasbn")]


@pytest.mark.parametrize("name", GENERATED)
def test_the_readme_agrees_with_help(name: str) -> None:
    assert generated(name) in README.read_text(), "run: python tests/test_docs.py"


@pytest.mark.parametrize("arguments", commands_shown(), ids=" ".join)
def test_every_command_shown_is_one(arguments: list[str]) -> None:
    if arguments and not arguments[0].startswith("-"):
        name, *rest = arguments
        context = command_of(name).make_context(name, rest)
        assert context.command is not None


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    """A bar within a cell, unless escaped, pushes what follows out of the table."""
    for table in re.findall(r"(?:^\|.*\|\n)+", README.read_text(), re.M):
        cells = [len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()]
        assert len(set(cells)) == 1, table


def test_every_file_named_exists() -> None:
    root = README.parent
    for text in (README.read_text(), (root / ".github/CONTRIBUTING.md").read_text()):
        named = re.findall(r"`((?:kerasbn|cli|tests|saved_models)/[\w./-]*)`", text)
        named += re.findall(r"`(\w+/(?:\w+/)*\w+\.py)`", text)
        for name in named:
            known = (root / name, root / "kerasbn" / name)
            made = name.startswith("saved_models/compare") or name == "saved_models/NAME"
            assert made or any(path.exists() for path in known), name


def test_every_command_is_shown() -> None:
    assert {arguments[0] for arguments in commands_shown() if arguments} >= set(COMMANDS)


def test_the_first_two_blocks_install_and_run() -> None:
    first, second = blocks()[:2]
    assert first.startswith('pip install -e ".[digits]" && kerasbn ')
    assert first.count("\n") == second.count("\n") == 1
    assert second == 'pip install -e ".[digits,test]" && pytest\n'


def test_help_shows_the_commands() -> None:
    shown = click.Context(cli, info_name="kerasbn").get_help()
    for name, sentence in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(sentence[:30])}", shown, re.M)


if __name__ == "__main__":
    text = README.read_text()
    for each in GENERATED:
        text = re.sub(
            rf"<!-- {each} -->\n.*?<!-- end -->",
            lambda _, each=each: generated(each),  # type: ignore[misc] # mypy sees no default
            text,
            flags=re.S,
        )
    README.write_text(text)


@pytest.mark.parametrize("file", [README, README.parent / ".github/CONTRIBUTING.md"])
def test_every_test_and_command_that_is_named_exists(file: Path) -> None:
    """Such as `tests/cli/test_infer.py` and `python -m tests.crash`."""
    named = set(re.findall(r"tests(?:/[\w./]*\w|\.\w+)", file.read_text(encoding="utf-8")))
    assert named
    for each in named:
        path = README.parent / (each if "/" in each else each.replace(".", "/"))
        assert path.is_file() or path.with_suffix(".py").is_file() or path.is_dir(), each
