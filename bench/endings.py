"""How long ranks last after their training, with and without us: ``python -m bench.endings``.

Four processes by the real torchrun (gloo) on a simulated node, in each way that ranks may end. The
last line is how far apart they stop at a limit of the job. Needs torch.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.support.endings import ENDINGS, LIMITED, ending
from tests.support.jobs import Ended, Node, simulated_node, torchrun

RANKS = 4
LIMIT_KWH = 3000 * 1.58 / 3.6e6


def run(program: str) -> tuple[Ended, float, list[float]]:
    """Run a program; return how it ended, when, and when each rank said that it did."""
    with tempfile.TemporaryDirectory() as name, simulated_node(Path(name), shared=True) as node:
        file = Path(name) / "train.py"
        file.write_text(program)
        ended = torchrun(node, file, world=RANKS)
        return ended, time.monotonic(), _said(node)


def _said(node: Node) -> list[float]:
    words = [word for rank in range(RANKS) for word in node.words(rank)]
    return [word.get("trained", word.get("ended")) for word in words]


def main() -> None:
    """Print the table."""
    print(f"{'ending':<22}{'without us, s':>14}{'with us, s':>12}{'longer, s':>11}  what is named")
    for name in ENDINGS:
        took = []
        for measured in (False, True):
            ended, at_s, said = run(ending(name, measured=measured))
            took.append(at_s - max(said))
        lines = [
            line for line in ended.out.splitlines() if "ported" in line or "Without an" in line
        ]
        lost = " ".join(lines).removeprefix("CarbonTracker: ")
        print(f"{name:<22}{took[0]:>14.2f}{took[1]:>12.2f}{took[1] - took[0]:>11.2f}  {lost[:90]}")
    _, _, said = run(LIMITED.replace("KWH", str(LIMIT_KWH)))
    print(f"a limit stops {len(said)} of {RANKS} ranks within {max(said) - min(said):.3f} s")


if __name__ == "__main__":
    main()
