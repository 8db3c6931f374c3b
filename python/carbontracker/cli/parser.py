"""The argument parser of all commands, with the same form of help."""

from __future__ import annotations

import argparse


def parser_of(
    command: str, what: str, examples: str, *, usage: str | None = None, abbreviated: bool = True
) -> argparse.ArgumentParser:
    """Return a parser whose help ends with examples.

    Args:
        command: as the user types it, ``carbontracker runs``.
        what: the command does, in one sentence.
        examples: text after the options; its lines are not wrapped.
        usage: replaces the usage line of argparse.
        abbreviated: allow unambiguous abbreviations of options.
    """
    return argparse.ArgumentParser(
        prog=command,
        usage=usage,
        description=what,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=abbreviated,
    )
