"""`plada export` as a Python call: the labelled set for another framework."""
