"""`plada.config` and `plada.known_encoders`: what is set on this machine, and encoders by short names."""
