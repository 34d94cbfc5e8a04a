"""The `gati` command line. `gati.cli.commands` defines the commands."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the `gati` command; the entry point of the installed script."""
    try:
        import rich  # noqa: F401  imported only to see whether it is installed
        import typer  # noqa: F401  imported only to see whether it is installed
    except ImportError as missing:
        print(f"gati: the command line needs {missing.name}: pip install 'gati-greenflash[cli]'", file=sys.stderr)
        raise SystemExit(4) from None
    from gati.cli import commands

    commands.run_app()
