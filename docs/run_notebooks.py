"""Run the notebooks of docs/notebooks in a folder of their own, and write them with what they print: python docs/run_notebooks.py

They run in one folder, the server's first: the client reads the file that the server wrote. Progress is left out, and what
depends on the machine, so that running them again changes nothing.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).resolve().parent / "notebooks"
NAMES = ("server", "client")  # in this order
PATIENCE = 300  # seconds for one cell


def run_notebook(path: Path, folder: Path) -> Any:
    """The notebook at `path`, run anew in `folder`; its progress (standard error) is left out."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=PATIENCE, kernel_name="python3", resources={"metadata": {"path": folder}}
    ).execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{path.stem}-{number}"
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [
                each
                for each in cell.outputs
                if each.get("name") != "stderr"
                and "application/vnd.jupyter.widget-view+json" not in each.get("data", {})
            ]
            for output in cell.outputs:
                output.get("data", {}).pop("image/jpeg", None)  # the same picture stands there as PNG
    return notebook


def main() -> None:
    import nbformat

    with tempfile.TemporaryDirectory() as folder:
        os.environ["PLADA_HOME"] = str(Path(folder) / "home")
        for name in NAMES:
            notebook = run_notebook(NOTEBOOKS / f"{name}.ipynb", Path(folder))
            nbformat.write(notebook, NOTEBOOKS / f"{name}.ipynb")
            print(f"wrote docs/notebooks/{name}.ipynb", file=sys.stderr)


if __name__ == "__main__":
    main()
