"""The README says what `--help` says. `python tests/test_docs.py` writes its tables anew."""

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


def table_of(name: str) -> str:
    """The options of a command, as a table in Markdown."""
    rows = ["| option | default | meaning |", "| --- | --- | --- |"]
    context = click.Context(command_of(name), info_name=name)
    for parameter in context.command.get_params(context):
        if isinstance(parameter, click.Option) and "--help" not in parameter.opts:
            names = ", ".join(f"`{each}`" for each in parameter.opts)
            if parameter.secondary_opts:
                names += " / " + ", ".join(f"`{each}`" for each in parameter.secondary_opts)
            if isinstance(parameter.type, click.Choice):
                names += " " + " \\| ".join(map(str, parameter.type.choices))
            elif not parameter.is_flag:
                names += f" {parameter.make_metavar(context)}".replace("|", "\\|")
            rows.append(f"| {names} | {default_of(parameter)} | {parameter.help} |")
    return "\n".join(rows)


def default_of(option: click.Option) -> str:
    if not option.show_default:
        return ""
    if option.secondary_opts:
        return f"`{(option.opts if option.default else option.secondary_opts)[0]}`"
    return f"`{option.default}`"


def examples_of(name: str) -> str:
    """The examples in a command's help, as a block of shell code."""
    text = (command_of(name).help or "").partition("Example:")[2]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "\n".join(["```sh", *lines, "```"])


def generated(name: str) -> str:
    """What the README says of a command beside its prose."""
    return f"<!-- {name} -->\n{examples_of(name)}\n\n{table_of(name)}\n<!-- end -->"


def blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", README.read_text(), re.M | re.S)


def commands_shown() -> list[list[str]]:
    """Every kerasbn command line in the README's shell blocks."""
    lines = [line for block in blocks() for line in block.splitlines()]
    parts = [part.strip() for line in lines for part in re.split(r"&&|\|", line.split("#")[0])]
    return [shlex.split(part)[1:] for part in parts if part.startswith("kerasbn")]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_has_examples_and_options_of(name: str) -> None:
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
    for each in COMMANDS:
        text = re.sub(
            rf"<!-- {each} -->\n.*?<!-- end -->",
            lambda _, each=each: generated(each),  # type: ignore[misc] # mypy sees no default
            text,
            flags=re.S,
        )
    README.write_text(text)
