"""`plada.known_encoders`: the encoders that have a short name."""

from plada.encoders.known import KNOWN_ENCODERS, KnownEncoder


def known_encoders() -> list[KnownEncoder]:
    """List the encoders that have a short name, with what is published of them.

    A short name may stand wherever an encoder is named. An index records the full name.

    Returns:
        The encoders, the default for photographs first.

    Examples:
        >>> import plada
        >>> plada.known_encoders()[0].short
        'clip'
    """
    return list(KNOWN_ENCODERS.values())
