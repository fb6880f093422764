"""The text of docs/datasets.md, from the table of known collections; docs/generate.py writes it."""

from pathlib import Path

from plada.common.units import group_digits
from plada.sources.catalogue.known import KNOWN, KnownDataset
from plada.sources.catalogue.places import looked_in
from plada.sources.targets.layouts import LAYOUTS

_HEAD = """# Data sets

Collections that plada knows by name. `python docs/generate.py` writes this page from
`plada/sources/catalogue/known.py`; do not edit it.

plada downloads none of them. Put the files (or a link) where they are looked for, below `$PLADA_HOME/datasets` or a folder of
`$PLADA_DATASETS` (several, with `:` between; for good: `plada config set datasets /data`), or give a path in place of the name. A name is also
found where an index or a manifest of that name was made of images elsewhere. `plada datasets` says what is here; `plada datasets NAME` says all about one;
`plada datasets --check` opens and counts what is here. A count that is not the known one is said and is no error: a part
of a set is a set. Without `--check` a count is compared only where a manifest of the set is stored, so that listing is
quick; a target is counted whenever it is used.

Licence notes are reminders: the publishers' terms count. "General knowledge" marks what was not checked against them.

## Any folder, any name

- A target is `train/CLASS/*` with `test/CLASS/*` and `validation/CLASS/*` (or `valid`, `val`) where there are such
  folders. Without validation images a fifth of the training images becomes it, stratified, seeded.
- Parts may have other names, in upper or lower case: `Train/`, `Training/`, `training_set/`, `Testing/`, `dev/`, and with the same words before
  or behind each, `seg_train/` and `seg_test/`. `eval/` is the test where there is no other, else the validation. `seg_pred/` and the like are left
  out, as is what else lies beside `train/`. All of it is said. A folder that looks like a part and is not understood (`train1/`, `test/` without
  `train/`) is refused, so that no part becomes a class. `__MACOSX/` does not count.
- Images in folders below `CLASS/` count for the class, and that is said; where several classes hold the same folders (`images/`, `masks/`), the
  target is refused.
- `CLASS/*` alone is split by plada: a fifth is the test, a fifth of the rest validation. What comes back says so.
- A folder in Hugging Face's parquet layout: `data/train-*.parquet`, `data/test-*.parquet`, `data/validation-*.parquet`,
  with an image column and a column of class labels.
- A folder in any of the layouts below is recognised by its files, under whatever path.
- Behind a registered name: `split=official` (the default where there is one), `split=paper`, `seed=N` for splits made
  here, and what a layout adds: `cub200:split=paper`, `dtd:partition=2`, `bloodmnist:size=64`, `cifar100:label=coarse_label`
  (parquet).

| layout | files |
| --- | --- |
"""


def datasets_page() -> str:
    """The whole page."""
    layouts = "".join(f"| {name} | {_plain(layout.about)} |\n" for name, layout in LAYOUTS.items())
    rows = "".join(_row(name, known) for name, known in KNOWN.items())
    table = (
        f"\n## Names\n\n| name | role | images | classes | official split |\n| --- | --- | --- | --- | --- |\n{rows}"
    )
    return _HEAD + layouts + table + "".join(_section(name, known) for name, known in KNOWN.items())


def _row(name: str, known: KnownDataset) -> str:
    return f"| [{name}](#{name}) | {known.role} | {_counts(known)} | {known.classes or ''} | {_plain(known.split)} |\n"


def _section(name: str, known: KnownDataset) -> str:
    lines = {
        "Images": _counts(known),
        "Other editions": "; ".join(
            f"{edition}: {', '.join(f'{part} {group_digits(count)}' for part, count in splits.items() if part != 'all') or group_digits(splits['all'])}"
            for edition, splits in known.also.items()
        ),
        "Classes": str(known.classes or ""),
        "Expects": known.expects,
        "Looks in": ", ".join(f"`{place}`" for place in _places(name, known)),
        "Split": known.split,
        "The paper's": known.paper,
        "Read by": known.reader,
        "Licence": known.licence,
        "Obtain": known.obtain,
        "Figures": known.figures,
    }
    told = "".join(f"- {field}: {_plain(text)}\n" for field, text in lines.items() if text)
    return f"\n### {name}\n\n{known.about[0].upper()}{known.about[1:]}.\n\n{told}"


def _counts(known: KnownDataset) -> str:
    if "all" in known.splits:
        return group_digits(known.splits["all"])
    return ", ".join(f"{part} {group_digits(count)}" for part, count in known.splits.items())


def _places(name: str, known: KnownDataset) -> list[str]:
    return [] if known.built_in else [str(place) for place in looked_in(Path(), name)]


def _plain(text: str) -> str:
    """Text that says what it says, in a table or outside."""
    return text.replace("|", "\\|").replace("*", "\\*")
