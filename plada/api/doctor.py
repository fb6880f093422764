"""`plada doctor`: what is installed, what it sees, where data is kept, and what to install for what is missing."""

import importlib
import importlib.metadata
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from plada.common.failures import first_line
from plada.common.files import home_directory
from plada.common.packages import import_timm
from plada.common.summary import Summary
from plada.common.version import __version__
from plada.errors import MissingExtra, PladaError, install_command

# Import name, distribution, the extra that brings it.
_PACKAGES = (
    ("numpy", "numpy", ""),
    ("pyarrow", "pyarrow", ""),
    ("PIL", "pillow", ""),
    ("zstandard", "zstandard", ""),
    ("blake3", "blake3", ""),
    ("fsspec", "fsspec", ""),
    ("torch", "torch", "client"),
    ("torchvision", "torchvision", "client"),
    ("timm", "timm", "client"),
    ("safetensors", "safetensors", "client"),
    ("sklearn", "scikit-learn", "client"),
    ("matplotlib", "matplotlib", "client"),
    ("open_clip", "open_clip_torch", "cpu"),
    ("starlette", "starlette", "explore"),
    ("uvicorn", "uvicorn", "explore"),
    ("python_multipart", "python-multipart", "explore"),
    ("lancedb", "lancedb", "cpu"),
    ("lance", "pylance", "cpu"),
    ("filelock", "filelock", "cpu"),
    ("loky", "loky", "cpu"),
    ("threadpoolctl", "threadpoolctl", "cpu"),
    ("faiss", "faiss-cpu", "cpu"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One package: `version` is None where it is not installed, `problem` is empty where it loads."""

    name: str
    version: str | None
    problem: str
    extra: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis(Summary):
    """What `plada doctor --json` prints.

    Attributes:
        plada: Version of plada.
        python: Version of Python.
        machine: Operating system and processor.
        processors: Number of CPUs.
        packages: Every package that plada can use.
        torch_devices: Devices that torch sees; none without torch.
        faiss_gpus: GPUs that FAISS can use; None without FAISS.
        home: Folder of indexes and manifests.
        free_bytes: Space left on its disk.
        indexes: Names of the indexes in it.
        advice: What to do, most pressing first; empty if nothing is wrong.
    """

    plada: str
    python: str
    machine: str
    processors: int
    packages: tuple[Package, ...]
    torch_devices: tuple[str, ...]
    faiss_gpus: int | None
    home: str
    free_bytes: int
    indexes: tuple[str, ...]
    advice: tuple[str, ...]


def doctor(*, home: str | Path | None = None) -> Diagnosis:
    """Look at everything that plada can use. Nothing is changed.

    Args:
        home: Folder of indexes and manifests; by default $PLADA_HOME or the user's data folder.

    Returns:
        What is installed, what it sees, and what to do about what is missing.

    Examples:
        >>> import plada
        >>> diagnosis = plada.doctor()
        >>> any(package.name == "numpy" for package in diagnosis.packages)
        True
    """
    root = home_directory(home)
    faiss_builds = [name for name in ("faiss-cpu", "faiss-gpu") if _version(name)]
    packages = tuple(_package(module, dist, extra, faiss_builds) for module, dist, extra in _PACKAGES)
    loads = {package.name: not package.problem for package in packages}
    devices = _torch_devices() if loads["torch"] else ()
    gpus = _faiss_gpus() if any(loads.get(name) for name in ("faiss-cpu", "faiss-gpu")) else None
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    return Diagnosis(
        plada=__version__,
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        processors=os.cpu_count() or 1,
        packages=packages,
        torch_devices=devices,
        faiss_gpus=gpus,
        home=str(root),
        free_bytes=shutil.disk_usage(existing).free,
        indexes=tuple(sorted(path.parent.name for path in (root / "indexes").glob("*/index.json"))),
        advice=tuple(advise(packages, faiss_builds, devices, gpus)),
    )


def advise(
    packages: tuple[Package, ...], faiss_builds: list[str], devices: tuple[str, ...], gpus: int | None
) -> list[str]:
    """What to do, most pressing first; `faiss_builds` are the FAISS distributions that pip believes are there."""
    advice: list[str] = []
    if len(faiss_builds) > 1:
        advice.append(
            "faiss-cpu and faiss-gpu are both installed and overwrite each other's files. "
            f"Run: pip uninstall -y faiss-cpu faiss-gpu && {install_command('cpu')} (or the extra gpu)"
        )
    missing: dict[str, list[str]] = {}
    for package in packages:
        if package.version is None:
            missing.setdefault(package.extra, []).append(package.name)
        elif package.problem and len(faiss_builds) < 2:
            advice.append(f"{package.name} {package.version} is installed but does not load: {package.problem}")
    if "client" in missing:
        advice.append(f"for training ({', '.join(missing['client'])}): {install_command('client')}")
    if "cpu" in missing:
        advice.append(
            f"for indexing, search and selection ({', '.join(missing['cpu'])}): {install_command('cpu')}, "
            "or the extra gpu where there is an NVIDIA GPU"
        )
    if any(device.startswith("cuda") for device in devices) and gpus == 0 and faiss_builds == ["faiss-cpu"]:
        advice.append(
            "torch sees a GPU, FAISS does not. For search on it: pip uninstall -y faiss-cpu && "
            + install_command("gpu")
        )
    return advice


def _package(module: str, distribution: str, extra: str, faiss_builds: list[str]) -> Package:
    if module == "faiss" and faiss_builds:
        distribution = faiss_builds[-1]
    version = _version(distribution)
    problem = _problem(module) if version is not None else "not installed"
    return Package(name=distribution, version=version, problem=problem, extra=extra)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _problem(module: str) -> str:
    """Why a module does not load, or an empty string; torchvision and timm are loaded the way plada loads them."""
    try:
        if module in ("torchvision", "timm", "open_clip"):
            try:
                import_timm()
            except MissingExtra as err:
                return str(err) if err.package == module else ""
        importlib.import_module(module)
    except PladaError as err:
        return str(err)
    except Exception as err:  # a broken package may raise anything when it is imported
        return first_line(err)
    return ""


def _torch_devices() -> tuple[str, ...]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ("cpu", *(f"cuda:{number} {torch.cuda.get_device_name(number)}" for number in range(count)))


def _faiss_gpus() -> int:
    """GPUs that FAISS can use; asked of its build, since GPU calls without one abort the process."""
    import faiss

    return int(faiss.get_num_gpus()) if "GPU" in faiss.get_compile_options() else 0
