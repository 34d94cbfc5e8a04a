"""The command `gati`. Its commands are in `commands`; this page only starts them."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the command `gati`."""
    try:
        import rich  # noqa: F401  asked for here, so that what is missing is said clearly
        import typer  # noqa: F401  for the same reason
    except ImportError as missing:
        print(f"gati: the command line needs {missing.name}: pip install 'gati-greenflash[cli]'", file=sys.stderr)
        raise SystemExit(4) from None
    from gati.cli import commands

    commands.main()
