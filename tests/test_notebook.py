"""The cell magic and the example notebook, each in a kernel of its own."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.programs import TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [
    pytest.mark.skipif(
        find_spec("nbclient") is None or find_spec("ipykernel") is None,
        reason="needs nbclient and ipykernel",
    ),
    pytest.mark.filterwarnings("ignore"),  # of the notebook's own machinery
]

EXAMPLE = Path(__file__).parents[1] / "examples" / "quickstart.ipynb"
LOAD = "%load_ext carbontracker"


def executed(*texts: str) -> list[Any]:
    """Return the cells after they were run one by one, those that end with an error included."""
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in texts])
    NotebookClient(book, timeout=TIMEOUT_S, kernel_name="python3", allow_errors=True).execute()
    cells: list[Any] = book.cells
    return cells


def cards(cell: Any) -> list[str]:
    """Return the displays of a cell as HTML."""
    shown = [one for one in cell.outputs if one.output_type == "display_data"]
    return [one["data"]["text/html"] for one in shown]


def errors(cell: Any) -> list[str]:
    return [one["ename"] for one in cell.outputs if one.output_type == "error"]


def values(cell: Any) -> list[str]:
    found = (one for one in cell.outputs if one.output_type == "execute_result")
    return [one["data"]["text/plain"] for one in found]


@pytest.fixture(scope="module")
def cells() -> Sequence[Any]:
    """A notebook with every kind of measured cell."""
    return executed(
        LOAD,
        "%%carbontracker --name 'three & more' --location DK\n"
        "import time\ntime.sleep(0.3)\nx = 6\nx * 7",
        "%%carbontracker --pue 1.2 --intensity 100\ndef later():\n    return x\nlater() + 1;",
        "%%carbontracker\nprint('before')\nnothing_there",
        "%%carbontracker --location Atlantis\nx = 'was run'",
        "%%carbontracker --no-such-option\nx = 'was run'",
        "%%carbontracker\nawait something()",
        "%%carbontracker --name empty\npass",
        "x, later()",
        "%%carbontracker --help\nx = 'was run'",
        "%%carbontracker\n(x,);  # hidden",
        "%%carbontracker\nx  # shown;",
        "%%carbontracker --intensity much\nx = 'was run'",
    )


def test_a_cell_runs_as_without_it_and_has_one_card(cells: Sequence[Any]) -> None:
    cell = cells[1]
    assert errors(cell) == []
    assert values(cell) == ["42"]
    (card,) = cards(cell)
    assert "Carbontracker: three &amp; more, " in card
    assert "Denmark" in card
    assert "total" in card
    assert re.search(r" in \d+(\.\d+)? m?s</caption>", card)


def test_a_semicolon_hides_the_value_and_options_count(cells: Sequence[Any]) -> None:
    assert values(cells[2]) == values(cells[10]) == []
    assert values(cells[11]) == ["6"]
    (card,) = cards(cells[2])
    assert "100.00 gCO2eq/kWh" in card
    assert "PUE 1.2" in card


def test_an_error_in_the_cell_has_its_card_and_goes_on(cells: Sequence[Any]) -> None:
    assert errors(cells[3]) == ["NameError"]
    (card,) = cards(cells[3])
    assert "The cell ended with NameError; this is what it used until then." in card
    (trace,) = [one for one in cells[3].outputs if one.output_type == "error"]
    assert "nothing_there" in re.sub(r"\x1b\[[\d;]*m", "", "\n".join(trace["traceback"]))
    assert any("before" in one.get("text", "") for one in cells[3].outputs)


def test_wrong_options_run_nothing(cells: Sequence[Any]) -> None:
    for cell, message in (
        (cells[4], "Atlantis"),
        (cells[5], "--no-such-option"),
        (cells[6], "await"),
        (cells[12], "intensity must be a number of gCO2eq/kWh"),
    ):
        # IPython shows a UsageError as a line on standard error.
        text = "".join(one.get("text", "") for one in cell.outputs)
        assert "UsageError: %%carbontracker: " in text
        assert message in text
        assert cards(cell) == []
    assert values(cells[8]) == ["(6, 6)"]


def test_help_and_a_cell_without_a_value(cells: Sequence[Any]) -> None:
    assert errors(cells[7]) == errors(cells[9]) == []
    (card,) = cards(cells[7])
    assert "empty" in card
    assert "--location" in "".join(one.get("text", "") for one in cells[9].outputs)


def test_the_line_is_renewed_while_the_cell_runs() -> None:
    """The kernel sends each update; the display has the last one."""
    import nbformat
    from nbclient import NotebookClient

    updates: list[str] = []

    class Client(NotebookClient):  # type: ignore[misc]  # a class without types
        def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
            if msg["msg_type"] == "update_display_data":
                updates.append(msg["content"]["data"]["text/plain"])
            return super().process_message(msg, cell, cell_index)

    texts = (LOAD, "%%carbontracker --name slow\nimport time\ntime.sleep(2.6)")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in texts])
    Client(book, timeout=TIMEOUT_S, kernel_name="python3").execute()
    assert len(updates) >= 2
    assert all(one.startswith("carbontracker: slow: ") for one in updates)


def test_the_example_runs_from_top_to_bottom() -> None:
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(EXAMPLE, as_version=4)
    nbformat.validate(book)
    assert not any(cell.get("outputs") for cell in book.cells)  # no figures of a machine of ours
    NotebookClient(book, timeout=TIMEOUT_S, kernel_name="python3").execute()
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell for cell in code if errors(cell)] == []
    assert "Carbontracker: matrix products, " in cards(code[2])[0]
    # The line of the training ends with what the training has cost, and not with a moment of it.
    (line,) = [one for one in code[3].outputs if one.output_type == "display_data"]
    total = code[4].outputs[0]["data"]["text/plain"].split(", ")[1]
    assert line["data"]["text/plain"].startswith("carbontracker: epoch 3/3: ")
    assert line["data"]["text/plain"].split(", ")[0].endswith(total)
    assert "Carbontracker: 3 epoch(s)" in code[4].outputs[0]["data"]["text/html"]
    assert "Carbontracker: footprint" in code[5].outputs[0]["data"]["text/html"]
