"""`plada.cache`: sizes of the caches of a home, and pruning."""

from pathlib import Path

from plada.common.files import home_directory
from plada.retrieval.kept import CacheFolder, list_caches


def cache(*, prune: bool = False, home: str | Path | None = None) -> list[CacheFolder]:
    """List the caches of a home, or empty them.

    Only what plada makes again by itself is a cache. Indexes, payloads, packs, manifests and keys are never touched.

    Args:
        prune: Delete the files of the caches.
        home: Where they are kept. None: $PLADA_HOME, or the user's data folder.

    Returns:
        Each cache, with its files and bytes before pruning and the bytes that were freed.

    Raises:
        RequestError: `home` is a URL.

    Examples:
        >>> import plada
        >>> sum(folder.freed for folder in plada.cache())
        0
    """
    return list_caches(home_directory(home), prune=prune)
