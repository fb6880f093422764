"""`plada.indexes` and `plada.cache`: what a home holds, and how it is removed."""
