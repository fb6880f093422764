"""Weights from Hugging Face: only on request, only safetensors, and from the cache if they are there."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plada.common.failures import first_line
from plada.common.packages import require
from plada.errors import RequestError


def fetch(repository: str, files: Sequence[str], *, encoder: str, tag: str) -> Path:
    """The first of `files` that `repository` (OWNER/NAME, or OWNER/NAME@REVISION) has, in Hugging Face's own cache.
    Raises RequestError: no network, or no file in safetensors; says what to do instead."""
    require("huggingface_hub", extra="client", purpose="a download")
    hub: Any = importlib.import_module("huggingface_hub")
    errors: Any = importlib.import_module("huggingface_hub.errors")
    identifier, _, revision = repository.partition("@")
    instead = (
        f"Where there is a network, download {files[0]} of huggingface.co/{identifier}, copy it here and give "
        f"--weights FILE --tag {tag}"
    )
    for local in (True, False):  # the cache first: what is there needs no network
        for file in files:
            try:
                return Path(hub.hf_hub_download(identifier, file, revision=revision or None, local_files_only=local))
            except errors.LocalEntryNotFoundError as err:
                if not local:
                    raise RequestError(
                        f"encoder {encoder}: no network to download its weights ({first_line(err)}). {instead}"
                    ) from err
            except errors.EntryNotFoundError:
                continue
            except Exception as err:  # of requests, of the hub, of the disk: all are said alike
                raise RequestError(
                    f"encoder {encoder}: its weights cannot be downloaded ({first_line(err)}). {instead}"
                ) from err
    raise RequestError(
        f"encoder {encoder}: huggingface.co/{identifier} has no weights in safetensors ({', '.join(files)}), and plada "
        f"opens no pickles. Convert them where you trust them (docs/encoders.md) and give --weights FILE --tag {tag}"
    )
