"""`kerasbn`: the group of commands, and how every one of them ends."""

import sys
from errno import EDQUOT, ENOSPC
from importlib import import_module
from typing import Any

import click

import kerasbn
from kerasbn.errors import KerasbnError

# Command -> the sentence `kerasbn --help` shows for it. Each lives in the file of its name, which
# is imported only when the command is asked for, so that help opens at once.
COMMANDS = {
    "train": "Train a network, with or without batch normalization.",
    "compare": "Train the same network with and without it, on the same batches.",
    "sweep": "Train a whole grid of networks, here or on a cluster, and say what it shows.",
    "report": "Tell of runs and studies as a page or a picture, or list runs.",
    "recalibrate": "Replace a network's moving statistics by those of all its data.",
    "data": "Show which digits there are, where, and whether they are whole.",
    "fold": "Fold the normalizations of a Keras network into the layers beside them.",
    "export": "Write a network as an ONNX file, its normalizations folded away.",
    "infer": "Answer pictures with an exported network, or show digits with its answers.",
    "verify": "Measure whether an ONNX file is folded, faithful and deterministic.",
}

HELP = """See what batch normalization does, then fold it away.

\b
Example:
  kerasbn train --bn
"""


class Commands(click.Group):
    """A group whose commands are imported by name, and whose errors are one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of a day's work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, from its own file."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"kerasbn.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments begin with; an unknown one is told its neighbours."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in COMMANDS:
            raise unknown_command(name)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def unknown_command(name: str) -> click.UsageError:
    """The error for a command there is none of, with the nearest names there are."""
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, n=1)
    advice = f"did you mean '{near[0]}'?" if near else "see kerasbn --help"
    return click.UsageError(
        f"received '{name}' as a command, expected one of {', '.join(COMMANDS)}; {advice}"
    )


@click.group(cls=Commands, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(kerasbn.__version__, prog_name="kerasbn")
@click.option(
    "-v", "--verbose", is_flag=True, help="Show what TensorFlow and its libraries print themselves."
)
@click.pass_context
def cli(ctx: click.Context, verbose: bool) -> None:
    """The group itself only remembers whether to be verbose."""
    ctx.obj = verbose


def main(args: list[str] | None = None) -> Any:  # noqa: ANN401 - click's own return value
    """Run the command line and leave with its exit code.

    0 is success, 1 a check that failed or a training that diverged, 2 input that cannot be used,
    130 Ctrl-C. Errors are one line on standard error; an error that is kerasbn's own fault keeps
    its traceback, since its report needs it.
    """
    try:
        cli.main(args=args, prog_name="kerasbn", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as nothing_asked:
        click.echo(nothing_asked.format_message(), err=True)
        sys.exit(2)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "kerasbn"
        fail(f"{command}: {error.format_message()}", 2)
    except click.ClickException as error:
        fail(f"kerasbn: {error.format_message()}", 2)
    except KerasbnError as error:
        fail(f"kerasbn: {error.for_command_line()}", error.exit_code)
    except OSError as error:
        if error.errno not in (ENOSPC, EDQUOT):
            raise
        where = error.filename or "standard output"
        fail(f"kerasbn: {where}: cannot be written ({error.strerror}); make room on the disk", 2)
    except (click.Abort, KeyboardInterrupt):
        fail("kerasbn: stopped", 130)


def fail(line: str, exit_code: int) -> None:
    """Print one line to standard error, whatever the input it quotes holds, and leave."""
    click.echo(" ".join(line.splitlines()), err=True)
    sys.exit(exit_code)
