"""`plada bench`: our selections, the paper's, and other things that could be sent instead, at equal bytes."""
