"""Optional packages: imported where they are needed, missed in one line that says what to install."""

import importlib
import importlib.util

from plada.errors import MissingExtra


def require(package: str, *, extra: str, purpose: str) -> None:
    """Import `package`, so that the plain `import` after this call cannot fail.

    Raises:
        MissingExtra: not installed, or installed and broken; names the extra that brings it.
    """
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as err:
        if importlib.util.find_spec(package.partition(".")[0]) is not None:
            raise MissingExtra(package=package, extra=extra, purpose=purpose, reason=f"lacks {err.name}") from err
        raise MissingExtra(package=package, extra=extra, purpose=purpose) from err
    except (ImportError, OSError, RuntimeError) as err:
        reason = f"is installed but does not load ({str(err).splitlines()[0] if str(err) else type(err).__name__})"
        raise MissingExtra(package=package, extra=extra, purpose=purpose, reason=reason) from err
