"""`plada.config`: what is set once for all commands."""

from pathlib import Path

from plada.common.settings import Setting, settings, write_setting


def config(
    name: str | None = None, value: str | None = None, *, unset: bool = False, home: str | Path | None = None
) -> list[Setting]:
    """Set, unset or list settings: `encoder`, `download`, `datasets`.

    A setting comes from its environment variable ($PLADA_ENCODER, $PLADA_DOWNLOAD, $PLADA_DATASETS), else from
    config.toml in the home folder, which this call writes, else it has its default.

    Args:
        name: The setting to set, to unset or to list; None lists all.
        value: The value that is kept in config.toml.
        unset: Remove what config.toml has for `name`.
        home: Where config.toml is kept. None: $PLADA_HOME, or the user's data folder.

    Returns:
        The setting of that name, or all of them, with where each value comes from.

    Raises:
        UnknownName: There is no such setting.
        RequestError: The setting does not take this value, or config.toml cannot be read.

    Examples:
        >>> import plada
        >>> plada.config("encoder", "clip", home="home")[0].value
        'clip'
    """
    if name is not None and (unset or value is not None):
        write_setting(name, None if unset else value, home)
    found = settings(home)
    return [each for each in found if each.name == name] if name is not None else found
