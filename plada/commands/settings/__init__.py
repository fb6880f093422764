"""The commands `plada config` and `plada encoders`."""
