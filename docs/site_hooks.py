"""What the documentation site (mkdocs.yml) adds to the pages of docs/: the files of the root that they link to, and the notebooks.

README.md is the site's first page. Links between root and docs/ are written for readers of the repository; here they are
turned into links within the site. The site is built without a network: notebooks are shown as they were committed.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
INDEX = "index.md"
PAGES = {
    "README.md": INDEX,
    "CHANGELOG.md": "CHANGELOG.md",
    "CODE_OF_CONDUCT.md": "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "decoders/README.md": "decoders/README.md",
}
_BADGE = re.compile(r"^\[!\[[^\]]*\]\(https?://[^)]*\)\]\([^)]*\)\n", re.MULTILINE)
_LINK = re.compile(r"(\]\()([^)\s:#]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the root, the files that pages link to, and each notebook as a page with its pictures."""
    for path, name in PAGES.items():
        files.append(File.generated(config, name, content=(ROOT / path).read_text(encoding="utf-8")))
    for path in linked_files():
        files.append(File.generated(config, path, content=(ROOT / path).read_bytes()))
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        text, pictures = notebook_page(notebook)
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=text))
        for name, data in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=data))
    return files


def linked_files() -> list[str]:
    """The files outside docs/ that pages link to, such as LICENSE; pages are not among them."""
    found = set()
    for page in [*PAGES, *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]:
        for _, link in _LINK.findall((ROOT / page).read_text(encoding="utf-8")):
            target = ((ROOT / page).parent / link).resolve()
            if target.is_file() and target.is_relative_to(ROOT) and not target.is_relative_to(ROOT / "docs"):
                found.add(target.relative_to(ROOT).as_posix())
    return sorted(found - set(PAGES))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links that leave docs/, or come into it, into links within the site. Badges are left out: they come from elsewhere."""
    here = next((path for path, name in PAGES.items() if name == page.file.src_uri), f"docs/{page.file.src_uri}")
    return _LINK.sub(lambda link: link[1] + link_within(here, link[2]), _BADGE.sub("", markdown))


def link_within(here: str, link: str) -> str:
    """A relative link of the page at `here`, both seen from the root, as it is within the site."""
    target = (ROOT / here).parent / link
    if target.is_dir() and (target / "README.md").exists():
        target /= "README.md"
    try:
        path = target.resolve().relative_to(ROOT).as_posix()
    except ValueError:
        return link
    up = "../" * place(here).count("/")
    return up + place(path)


def place(path: str) -> str:
    """Where a file of the repository lies within the site."""
    return PAGES.get(path, path.removeprefix("docs/"))


def notebook_page(notebook: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its pictures by their names."""
    import nbformat
    from nbconvert import MarkdownExporter

    cells = nbformat.read(notebook, as_version=4)
    text, resources = MarkdownExporter().from_notebook_node(
        cells, {"unique_key": notebook.stem, "output_files_dir": f"{notebook.stem}_files"}
    )
    return text.replace("![png]", "![what the cell shows]"), dict(resources["outputs"])
