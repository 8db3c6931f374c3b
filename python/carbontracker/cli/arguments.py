"""How the commands read their arguments: one look of help for all."""

from __future__ import annotations

import argparse


def parser_of(
    command: str, what: str, examples: str, *, usage: str | None = None, abbreviated: bool = True
) -> argparse.ArgumentParser:
    """Return a parser whose help ends with examples, laid out as they are.

    Args:
        command: as it is typed, ``carbontracker runs``.
        what: it does, in a sentence.
        examples: of its use.
        usage: in place of what argparse makes of the arguments.
        abbreviated: options may be shortened as far as they stay clear.
    """
    return argparse.ArgumentParser(
        prog=command,
        usage=usage,
        description=what,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=abbreviated,
    )
