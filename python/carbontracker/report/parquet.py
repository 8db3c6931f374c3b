"""The rows of ``epochs`` as Parquet, with the totals of the run in the file's metadata."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from carbontracker.report import epochs, summary
from carbontracker.report.extras import needed

if TYPE_CHECKING:
    from carbontracker.records.recorded import RunRecord


def render(run: RunRecord) -> bytes:
    """Return the file; what is not known is null.

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    arrow = needed("pyarrow", "parquet")
    kinds = {str: arrow.string(), int: arrow.int64(), float: arrow.float64(), bool: arrow.bool_()}
    columns = epochs.columns_of(run)
    metadata = {"carbontracker": summary.render(run)}
    schema = arrow.schema(
        [(name, kinds[kind]) for name, kind in columns.items()], metadata=metadata
    )
    found = list(epochs.rows(run))
    data = {name: [row[name] for row in found] for name in columns}
    out = io.BytesIO()
    needed("pyarrow.parquet", "parquet").write_table(arrow.table(data, schema=schema), out)
    return out.getvalue()
