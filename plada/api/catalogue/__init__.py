"""`plada.publish` and `plada.pull`: the two ends of a catalogue."""
