"""Where `kerasbn` and `python -m kerasbn` begin."""

import sys


def start() -> None:
    """Run the command line; a Ctrl-C while it is still being loaded ends as a later one does."""
    try:
        from kerasbn.cli.main import main
    except KeyboardInterrupt:
        print("kerasbn: stopped", file=sys.stderr)  # noqa: T201 - click may not be there yet
        sys.exit(130)
    main()


if __name__ == "__main__":
    start()
