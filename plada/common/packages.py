"""Optional packages, imported where they are needed. If one is missing, the error says what to install."""

import importlib
import importlib.util
from typing import Any

from plada.common.failures import first_line
from plada.errors import MissingExtra

_shim: list[Any] = []  # keeps the registration below alive


def require(package: str, *, extra: str, purpose: str) -> None:
    """Import `package`, so that the plain `import` after this call cannot fail. Raises MissingExtra: not installed, or
    installed and broken; names the extra that brings it."""
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as err:
        if importlib.util.find_spec(package.partition(".")[0]) is not None:
            raise MissingExtra(package=package, extra=extra, purpose=purpose, reason=f"lacks {err.name}") from err
        raise MissingExtra(package=package, extra=extra, purpose=purpose) from err
    except (ImportError, OSError, RuntimeError) as err:
        reason = f"is installed but does not load ({first_line(err)})"
        raise MissingExtra(package=package, extra=extra, purpose=purpose, reason=reason) from err


def import_timm() -> Any:
    """timm, with torchvision made loadable where its wheel was built for CUDA and torch for the CPU.

    The general index serves only CUDA builds of torchvision; beside a CPU torch their operators are missing and
    `import torchvision` fails. Declaring the two operators is enough: nothing that timm does calls them.

    Raises:
        MissingExtra: torch, torchvision or timm is missing or broken.
    """
    require("torch", extra="client", purpose="a network")
    import torch

    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        if torch.version.cuda is None and not _shim:
            library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _shim.append(library)
    except ImportError:
        pass  # said by the next line
    require("torchvision", extra="client", purpose="a timm network")
    require("timm", extra="client", purpose="a timm network")
    return importlib.import_module("timm")
