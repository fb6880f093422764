"""bench.md: the results in words and tables, beside the paper's own numbers."""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from plada.benchmark import paper_numbers as paper
from plada.benchmark.label_methods import CURVE, KEPT
from plada.benchmark.methods import BOUNDS, IMAGES, METHODS, ORACLE, OURS, WEIGHTS
from plada.benchmark.results import Results

_REFERENCE = 14_197_122  # images of ImageNet-21K, the paper's reference
_ABOUT = {ORACLE: "the best of the paper's rules, picked by TEST accuracy for each target, budget and seed"}
_COMMANDS = """```
plada index /data/imagenet21k --name imagenet21k --encoder open_clip:ViT-B-32-256/datacomp_s34b_b86k --pretrained
plada bench --index imagenet21k --targets caltech101,cifar10,cub200,dtd,fgvc-aircraft,food101,flowers102,pets,places365,resisc45 \\
    --budgets 50kB,150kB,500kB --keep 1%,5%,10% --student resnet18 --pretrained --out bench-imagenet21k
```"""


def document(
    results: Results,
    pictures: Sequence[Path],
    *,
    index: str,
    images: int,
    encoder: str,
    student: str,
    seeds: int,
    cores: int,
    teacher: str = "a linear teacher",
    gaps: Sequence[str] = (),
) -> str:
    """The whole text, as Markdown. The same rows give the same text: times are not in it."""
    budgets = ", ".join(f"{budget:,} bytes".replace(",", " ") for budget in results.budgets)
    ours = results.ours or "none"
    lines = [
        "# Benchmark",
        "",
        f"`plada bench`: {_many(len(results.targets), 'target')}, {budgets}, {_many(seeds, 'seed')}; reference `{index}` of {images} images, encoder "
        f"{encoder}, {teacher}, student `{student}`; {cores} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}.",
        "Test accuracy in %. Each seed draws another validation split, hence another teacher. What a method is and what counts as",
        "its bytes: docs/bench.md.",
        "",
        "## Equal bytes",
        "",
        "Mean over targets and seeds, +- the deviation of that mean between seeds. In brackets: the targets that a method has a row on,",
        "where it does not fit the others' budgets; such means are not comparable with the whole ones.",
        "",
        *_equal_bytes(results),
        "",
        f"How far `{ours}` is ahead, in points, in the mean over the targets that both have (negative: behind):",
        "",
        *_leads(results),
        "",
        *_verdict(results),
        "",
        "![Accuracy against bytes](pareto.png)",
        "",
    ]
    for budget in results.budgets:
        lines += [f"### {budget} bytes, target by target", "", *_by_target(results, budget), ""]
    if results.keeps:
        lines += _keep_rates(results, images)
    lines += _images(results)
    if gaps:
        lines += ["## Gaps in the paper's protocol, and how they were filled", "", *(f"- {gap}" for gap in gaps), ""]
    lines += [
        "## What was not run here",
        "",
        f"ImageNet-21K itself ({_REFERENCE} images), the paper's ten natural sets whole, its teacher (ConvNeXt-V2-Tiny, fine-tuned) and its student",
        "(ResNet-18 from pre-trained weights). Where targets here have the name of a set of the paper's they are small parts or",
        "relatives of it. With the collections at hand, one command each:",
        "",
        _COMMANDS,
        "",
        *_unfit(results),
        "Pictures: " + ", ".join(f"[{path.name}]({path.name})" for path in pictures) + ". All rows: table.parquet.",
    ]
    return "\n".join(lines).rstrip() + "\n"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _head(first: str, names: Sequence[str]) -> list[str]:
    return [f"| {first} | " + " | ".join(names) + " |", "| --- " * (len(names) + 1) + "|"]


def _equal_bytes(results: Results) -> list[str]:
    lines = _head("method", [*(f"{budget} B" for budget in results.budgets), "what it is"])
    for method in results.methods:
        once = method in METHODS and METHODS[method].once
        if once:
            mean = results.mean(method)
            cells = [f"{_percent(mean[0])}, {_bytes_of(results, method)}" if mean else ""] + [""] * (
                len(results.budgets) - 1
            )
        else:
            cells = [_mean(results, method, budget) for budget in results.budgets]
        name = f"**{method}**" if method in METHODS and METHODS[method].group == OURS else method
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {_ABOUT.get(method) or METHODS[method].about} |")
    return lines


def _mean(results: Results, method: str, budget: int) -> str:
    mean = results.mean(method, budget)
    if mean is not None:
        return f"{_percent(mean[0])} +- {_percent(mean[1])}"
    covered = [target for target in results.targets if results.accuracy(method, target, budget) is not None]
    if not covered:
        return "does not fit"
    values = [results.accuracy(method, target, budget) or 0.0 for target in covered]
    return f"({_percent(sum(values) / len(values))}; {len(covered)} of {len(results.targets)})"


def _bytes_of(results: Results, method: str) -> str:
    sizes = [row.bytes for row in results.cells(method).values() if row.bytes is not None]
    if not sizes:
        return "not sent"
    return f"{_span(sizes)} B"


def _span(values: Sequence[float]) -> str:
    """`12`, `12 to 30`."""
    least, most = f"{min(values):.0f}", f"{max(values):.0f}"
    return least if least == most else f"{least} to {most}"


def _leads(results: Results) -> list[str]:
    leads = results.leads()
    lines = _head("ahead of", [f"{budget} B" for budget in results.budgets])
    for method in results.rivals():
        values = [leads[str(budget)].get(method) for budget in results.budgets]
        if any(value is not None for value in values):
            lines.append(f"| {method} | " + " | ".join("" if v is None else f"{100 * v:+.1f}" for v in values) + " |")
    return lines


def _verdict(results: Results) -> list[str]:
    """Where ours is not ahead, and why, as far as the kind of method explains it."""
    behind: dict[str, list[str]] = {}
    for budget in results.budgets:
        for method, value in results.leads()[str(budget)].items():
            if value <= 0:
                behind.setdefault(method, []).append(f"{budget} B ({100 * value:+.1f})")
    if not behind:
        return [
            f"`{results.ours}` is above every other method at each budget, in the mean over the targets that both have."
        ]
    lines = [f"`{results.ours}` is not above:", ""]
    for method, where in behind.items():
        reason = _WHY[ORACLE] if method == ORACLE else _WHY.get(METHODS[method].group, "")
        lines.append(f"- {method} at {', '.join(where)}{': ' + reason if reason else ''}")
    return lines


_WHY = {
    ORACLE: "it picks by test accuracy",
    WEIGHTS: "the client must have the server's own encoder and wants this very probe: a linear student on that encoder is one, and "
    "what is sent is the teacher itself, in few bits. Labels serve any student",
    IMAGES: "pictures of the target itself, where they are small",
}


def _by_target(results: Results, budget: int) -> list[str]:
    lines = _head("method", [*results.targets, "mean"])
    for method in results.methods:
        known = method in METHODS
        once = known and METHODS[method].once
        at = None if once and METHODS[method].group == BOUNDS else budget
        values = [results.accuracy(method, target, at) for target in results.targets]
        if all(value is None for value in values):
            continue
        mean = results.mean(method, at)
        lines.append(
            f"| {method} | " + " | ".join(_percent(v) for v in values) + f" | {_percent(mean[0]) if mean else ''} |"
        )
    return lines


def _keep_rates(results: Results, images: int) -> list[str]:
    first = results.keeps[0]
    rates = [f"{keep:.4g}" if keep < 1e-4 else f"{100 * keep:g} %" for keep in results.keeps]
    lines = [
        "## Keep rates (the paper's table 1)",
        "",
        f"The share of the reference that is kept, of {images} images here and of {_REFERENCE} there: the same share names",
        f"{_REFERENCE / images:.0f} times as many images there. The order of the rows is comparable, not the numbers.",
        "",
        *_head("rule", [*rates, "", *(f"paper {100 * keep:g} %" for keep in paper.KEEPS)]),
    ]
    papers = " | ".join(f"{value:.1f}" for value in paper.KEEP_RATE_MEANS["ImageNet-21K"])
    for rule in CURVE:
        cells = [results.mean(rule, None, keep) for keep in results.keeps]
        beside = papers if rule == "energy" else " | ".join([""] * len(paper.KEEPS))
        lines.append(f"| {rule} | " + " | ".join(_percent(c[0]) if c else "" for c in cells) + f" | | {beside} |")
    lines += ["", "Energy, target by target, beside the set of the paper's that is nearest in kind:", ""]
    lines += _head("target", [*rates, "the paper's", *(f"{100 * keep:g} %" for keep in paper.KEEPS)])
    for target in results.targets:
        shown = [_percent(results.accuracy("energy", target, None, keep)) for keep in results.keeps]
        kin = paper.KIN.get(target, "")
        theirs = [f"{value:.1f}" for value in paper.KEEP_RATE[kin]] if kin else [""] * len(paper.KEEPS)
        lines.append(f"| {target} | " + " | ".join([*shown, kin, *theirs]) + " |")
    lines += ["", "![Keep rates](keep.png)", ""]
    lines += ["## Rules side by side (table 3)", "", f"At {rates[0]} of the reference.", ""]
    lines += _rules(results, [t for t in results.targets if t not in results.far], first, paper.RULES_SIDE_BY_SIDE)
    lines += ["", "![Rules](rules.png)", ""]
    if results.far:
        lines += [
            "## Far-off targets (table 5)",
            "",
            f"At {rates[0]} of the reference; the paper's medical sets beside.",
            "",
        ]
        lines += _rules(results, results.far, first, paper.FAR_OFF)
        lines += ["", "![Far-off targets](far.png)", ""]
    lines += ["## Sizes (table 4)", "", f"Bytes under each coder, range over targets (means of seeds), reference of {images} images; the paper's", f"ranges are of {_REFERENCE} images. Raw, Huffman and Zstd are the paper's coders, the better of its two forms; ours is", "the whole file, header included.", ""]  # fmt: skip
    return [*lines, *_sizes(results, rates), "", "![Sizes](sizes.png)", ""]


def _rules(results: Results, targets: Sequence[str], keep: float, papers: Mapping[str, Sequence[float]]) -> list[str]:
    rules = [rule for rule in KEPT if results.cells(rule, None, keep)]
    lines = _head("target", rules)
    lines += [
        f"| {target} | " + " | ".join(_percent(results.accuracy(rule, target, None, keep)) for rule in rules) + " |"
        for target in targets
    ]
    for name, values in papers.items():
        beside = dict(zip(paper.RULES, values, strict=True))
        lines.append(
            f"| paper: {name} | " + " | ".join(f"{beside[r]:.1f}" if r in beside else "" for r in rules) + " |"
        )
    return lines


def _sizes(results: Results, rates: Sequence[str]) -> list[str]:
    names: dict[str, None] = {}
    for keep in results.keeps:
        for target in results.targets:
            names.update(dict.fromkeys(results.coders("energy", target, keep)))
    lines = _head("rule, keep rate", [*names, "paper: raw", "Huffman", "Zstd"])
    for rule in ("energy", "herd-sure"):
        for keep, rate in zip(results.keeps, rates, strict=True):
            listed = [results.coders(rule, target, keep) for target in results.targets]
            columns = ([sizes[name] for sizes in listed if name in sizes] for name in names)
            cells = [_span(column) if column else "" for column in columns]
            beside = paper.SIZES.get(f"{100 * keep:g}%", ("", "", "")) if rule == "energy" else ("", "", "")
            lines.append(f"| {rule}, {rate} | " + " | ".join([*cells, *beside]) + " |")
    return lines


def _images(results: Results) -> list[str]:
    """The paper's table 2."""
    lines = [
        "## Pictures of the target (table 2)",
        "",
        "The paper does not compare at equal bytes: its image baselines take 2 to 13 times what its labels take. For reference, its numbers",
        f"(labels {paper.BASELINE_KB[0]} KB; pictures {', '.join(map(str, paper.BASELINE_KB[1:]))} KB):",
        "",
        *_head("set", ["labels, 1 %", *paper.IMAGES, "teacher"]),
    ]
    for name, values in paper.BASELINES.items():
        shown = ["" if value is None else f"{value:.1f}" for value in values]
        lines.append(f"| {name} | " + " | ".join([*shown, f"{paper.TEACHERS[name]:.1f}"]) + " |")
    return [*lines, ""]


def _unfit(results: Results) -> list[str]:
    """Methods without a row, once for each budget and reason."""
    reasons: dict[tuple[str, int | None, str], list[tuple[str, int | None]]] = {}
    for row in results.rows:
        if row.accuracy is None:
            reasons.setdefault((row.method, row.budget, row.note), []).append((row.target, row.bytes))
    if not reasons:
        return []
    lines = ["Without a row, since it does not fit:", ""]
    for (method, budget, note), cells in reasons.items():
        needs = [size for _, size in cells if size is not None]
        least = f": {_span(needs)} bytes" if needs else ""
        where = ", ".join(dict.fromkeys(target for target, _ in cells))
        lines.append(f"- {method}{f' at {budget} bytes' if budget is not None else ''}: {note}{least} ({where})")
    return [*lines, ""]
