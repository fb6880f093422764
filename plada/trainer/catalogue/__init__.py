"""Catalogues as a client uses them: where they are, what was seen of them, and what is kept here."""
