"""What reading a damaged parquet file raises."""

import pyarrow as pa

# A name of a column, or of a file, that is not UTF-8 gets no error of Arrow's own.
PARQUET_ERRORS: tuple[type[Exception], ...] = (OSError, UnicodeError, pa.ArrowException)
