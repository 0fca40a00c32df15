"""`kerasbn`: the group of commands, and how they report errors."""

import select
import signal
import sys
import threading
from errno import EDQUOT, ENOSPC
from importlib import import_module
from types import FrameType
from typing import Any

import click

from kerasbn.common.errors import KerasbnError, StoppedError, did_you_mean
from kerasbn.common.wording import shorten

from .output import echo, fail

# The commands and their one-line help, in the order of a day's work. Each is imported from the file
# of its name only when it is run, so that help opens at once.
COMMANDS = {
    "train": "Train a model with or without BN.",
    "compare": "Train the same model with and without BN, and compare them.",
    "sweep": "Train a grid of configurations with and without BN, over several seeds.",
    "report": "Build a report from runs or studies. Without arguments, list them.",
    "recalibrate": "Recompute a model's BN statistics over the full training set.",
    "data": "List the available datasets and verify their checksums.",
    "fold": "Fold the BN layers of a model into their neighboring layers.",
    "export": "Export a model to ONNX with its BN layers folded.",
    "infer": "Classify images with an exported model.",
    "verify": "Check that an ONNX file is intact, folded, correct and deterministic.",
}

HELP = """See what batch normalization (BN) does, then fold it away.

\b
Example:
  kerasbn train --bn
  kerasbn export model.onnx
  kerasbn infer
"""

EPILOG = """For shell completion, add this to ~/.bashrc (zsh and fish likewise):

\b
  eval "$(_KERASBN_COMPLETE=bash_source kerasbn)"
"""


class Commands(click.Group):
    """A group that imports its commands by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command from the file of its name; suggest the closest to an unknown one."""
        if cmd_name.startswith("-"):
            return None
        if cmd_name not in COMMANDS:
            advice = did_you_mean(cmd_name, COMMANDS) or "see kerasbn --help"
            known = ", ".join(COMMANDS)
            raise click.UsageError(
                f"received '{cmd_name}' as a command, expected one of {known}; {advice}"
            )
        command: click.Command = import_module(f"kerasbn.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    """Print the version and end; unlike click's option, also if kerasbn is not installed."""
    if value and not ctx.resilient_parsing:
        from kerasbn.common.records import own_version

        echo(f"kerasbn, version {own_version()}")
        ctx.exit()


@click.group(
    cls=Commands,
    help=HELP,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=show_version,
    help="Show the version and exit.",
)  # fmt: skip
@click.option(
    "-v", "--verbose", is_flag=True, help="Show the messages of TensorFlow and its libraries."
)
@click.pass_context
def cli(ctx: click.Context, verbose: bool) -> None:
    """Remember whether to be verbose, for the commands."""
    ctx.obj = verbose


def main(args: list[str] | None = None) -> Any:  # noqa: ANN401 - click's own return value
    """Run the command line and exit with its exit code.

    0 means success, 1 a failed check or diverged training, 2 unusable input, 130 Ctrl-C, 141 a
    closed pipe on standard output, 143 SIGTERM, which stops a command as Ctrl-C does. Errors that a
    user can cause are one line on standard error; a bug in kerasbn keeps its traceback.
    """
    terminated: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        terminated.append(number)
        signal.raise_signal(signal.SIGINT)

    if threading.current_thread() is threading.main_thread():  # Python allows no other
        signal.signal(signal.SIGTERM, interrupt)
    try:
        cli.main(args=args, prog_name="kerasbn", standalone_mode=False)
    except SystemExit as ended:
        if ended.code == 1 and _reader_has_gone():  # click takes that for a failure
            ended.code = 141
        raise
    except click.exceptions.NoArgsIsHelpError as error:
        echo(*error.format_message().splitlines(), err=True)
        sys.exit(2)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "kerasbn"
        fail(f"{command}: {error.format_message()}", 2)
    except StoppedError as error:
        fail(f"kerasbn: {error}", 143 if terminated else error.exit_code)
    except KerasbnError as error:
        fail(f"kerasbn: {error.for_command_line()}", error.exit_code)
    except OSError as error:
        is_full = error.errno in (ENOSPC, EDQUOT)
        if not is_full and error.filename is None:  # it is not about a path
            raise
        where = shorten(str(error.filename or "standard output"), 80)
        use, advice = ("written", "make room on the disk") if is_full else ("used", "give another")
        fail(f"kerasbn: {where}: cannot be {use} ({error.strerror}); {advice}", 2)
    except (click.Abort, KeyboardInterrupt):
        fail("kerasbn: stopped", 143 if terminated else 130)


def _reader_has_gone() -> bool:
    """Return whether standard output is a pipe whose reader has ended, as with `| head`."""
    poll = select.poll()
    poll.register(1, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
