"""What damaged parquet files raise, and statistics that such a file cannot end the process with."""

from typing import Any

import pyarrow as pa

# A name of a column that is not UTF-8 gets no error of Arrow's own.
PARQUET_ERRORS: tuple[type[Exception], ...] = (OSError, UnicodeDecodeError, pa.ArrowException)


def column_statistics(file: Any, group: int, column: int) -> Any:
    """Statistics of a column in one row group of an open parquet file, or None. Raises ArrowInvalid: that part of the column
    is said to be of another type than the whole; Arrow would abort the process."""
    chunk = file.metadata.row_group(group).column(column)
    if chunk.physical_type != file.schema.column(column).physical_type:
        raise pa.ArrowInvalid(f"column {column} has {chunk.physical_type} in row group {group}")
    return chunk.statistics
