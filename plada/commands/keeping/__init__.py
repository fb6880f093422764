"""The commands `plada indexes` and `plada cache`."""
