"""The commands `plada publish` and `plada pull`."""
