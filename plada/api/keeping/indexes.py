"""`plada.indexes`: indexes, pulled payloads, packs and manifests of a home."""

from pathlib import Path

from plada.common.files import home_directory
from plada.errors import RequestError
from plada.retrieval.kept import KeptItem, find_item, list_kept, remove_item, rename_index


def indexes(
    name: str | None = None,
    *,
    kind: str = "index",
    remove: bool = False,
    rename: str | None = None,
    home: str | Path | None = None,
) -> list[KeptItem]:
    """List what a home keeps, remove one, or rename an index.

    Damaged and unfinished ones are listed with the reason in `problem`.

    Args:
        name: The one that is meant; None lists all.
        kind: "index", "payload" (pulled from catalogues), "pack" or "manifest".
        remove: Remove it. No question is asked.
        rename: The new name of an index.
        home: Where they are kept. None: $PLADA_HOME, or the user's data folder.

    Returns:
        The items; of a removed one what it was, of a renamed one what it is.

    Raises:
        UnknownName: There is no such item or kind.
        RequestError: It cannot be removed or renamed.
        ResourceError: Another process builds or reads it.

    Examples:
        >>> import plada
        >>> all(item.kind == "index" for item in plada.indexes())
        True
    """
    root = home_directory(home)
    if remove and rename is not None:
        raise RequestError("indexes: expected remove or rename, not both")
    if name is None:
        if remove or rename is not None:
            raise RequestError("indexes: expected the name of the one to remove or rename")
        return list_kept(root, kind)
    if rename is not None:
        if kind != "index":
            raise RequestError(f"{kind} {name}: its name is made from its content. Only an index can be renamed")
        return [rename_index(root, name, rename)]
    return [remove_item(root, name, kind) if remove else find_item(root, name, kind)]
