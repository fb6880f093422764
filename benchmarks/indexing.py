"""Indexing: end-to-end rate against the network alone, clip-retrieval on the same images, kills, search and scan.

    python ../shared/data/unpack.py DIR --as tars
    python benchmarks/indexing.py --data DIR [--clip-retrieval OTHER/bin/python] [--out docs/benchmarks.md] [--json]

--only rate,kills runs parts of it. Every figure is a ratio within one run of its part; the last line with --json holds
rate_ratio, clip_retrieval_ratio, kills_survived, exact_qps, ann_recall, ann_speedup, scan_ratio and the rest; what was not
measured is null. OTHER is an environment with clip-retrieval in it: its wishes for numpy and torch are not plada's.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import indexing_kills, indexing_peer, indexing_rate, search_speed
from benchmarks.document import machine, write_section
from benchmarks.indexing_rate import Network
from benchmarks.indexing_run import scratch, some_tars

PARTS = ("rate", "peer", "kills", "search")
HEADLINES = (
    "rate_ratio", "clip_retrieval_ratio", "kills_survived", "exact_qps", "ann_recall", "ann_speedup", "scan_ratio",
)  # fmt: skip


def network_of(data: Path, device: str, batches: tuple[int, ...] = ()) -> Network:
    """What is embedded with: mobilenetv2_100 at 96 pixels on a CPU, on a GPU a ViT-B/32 with random weights."""
    if device.startswith("cuda"):
        return Network(encoder=indexing_peer.MODEL, device=device, batches=batches or (64, 256, 1024))
    return Network(
        encoder="timm:mobilenetv2_100",
        weights=data / "weights" / "mobilenetv2_100.safetensors",
        model_args={"pad_type": "same"},
        image_size=96,
        device=device,
        batches=batches or (8, 16, 32, 64),
    )


def rate_part(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    tars = some_tars(options.data / "reference-tars", options.images, folder / "tars")
    batches = tuple(int(n) for n in options.batches.split(",")) if options.batches else ()
    network = network_of(options.data, options.device, batches)
    return indexing_rate.measure(network, tars, folder, rounds=options.rounds, seconds=options.seconds)


def peer_part(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    if options.clip_retrieval is None:
        return {"clip_retrieval_ratio": None, "why": "not measured: --clip-retrieval names no environment to run it in"}
    return indexing_peer.measure(
        options.clip_retrieval, options.data / "reference-tars", folder, images=options.peer_images,
        rounds=options.rounds, seconds=options.seconds, device=options.device,
    )  # fmt: skip


def kills_part(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    tars = some_tars(options.data / "reference-tars", options.kill_images, folder / "tars")
    return indexing_kills.measure(
        tars, network_of(options.data, options.device).arguments(), folder, kills=options.kills,
        worker_kills=options.worker_kills, seed=options.seed,
    )  # fmt: skip


def search_part(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    home = options.stores or folder
    return {
        **search_speed.search_figures(home, images=options.search_images, seed=options.seed),
        **search_speed.scan_figures(home, images=options.scan_images, seed=options.seed),
    }


MEASURE: dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]] = {
    "rate": rate_part, "peer": peer_part, "kills": kills_part, "search": search_part,
}  # fmt: skip


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median, least and most."""
    least, middle, most = (f"{value:,.{digits}f}" for value in (min(values), median(values), max(values)))
    return f"{middle} ({least} to {most})" if len(values) > 1 else middle


def rate_text(found: Mapping[str, Any]) -> str:
    kinds = ("forward", "forward_folded", "forward_together")
    forward = "\n".join(
        f"| {n} | "
        + " | ".join(spread(found[kind][n]) if n in found[kind] else "-" for kind in kinds)
        + f" | {found['forward_default_malloc'][n]:,.0f} |"
        for n in found["forward"]
    )
    prepare, sides = found["prepare"], [*found["forward"].values(), *found["forward_together"].values()]
    limit = "the network" if max(map(median, sides)) < prepare else "reading and decoding"
    own, strict = found["rate_ratio_folded"], found["rate_ratio_together"]
    together = (
        f"; {own:.3f} of it with batch norms folded, as plada runs it; {strict:.3f} of what folded processes of one thread\n"
        "each do together, of which reading and decoding take their share of the same cores"
        if own and strict
        else ""
    )
    stages = ", ".join(
        f"{name} {spread([stage.get(name, 0.0) for stage in found['stages']], 1)}" for name in found["stages"][0]
    )
    return f"""
## Indexing: rate

`python benchmarks/indexing.py --only rate`, on {found["machine"]}; {found["encoder"]} on {found["device"]},
{found["images"]:,} images of the shared reference in tars, {found["rounds"]} rounds in turns: forward, `plada index`, forward.
Load average of the machine before the runs of plada: {spread(found["load_average"], 2)}.

End to end, loading left out: {spread(found["end_to_end"])} images/s; **{found["rate_ratio"]:.3f}** ({min(found["ratios"]):.3f} to
{max(found["ratios"]):.3f}) of the forward rate, in one process, of the network as its library makes it{together}. Whole command, start and loading included:
{spread(found["wall"])} images/s. CPU of all its processes: {spread(found["cpu_ms"], 2)} ms an image. Seconds by stage: {stages}.

Forward pass alone on tensors that are ready, images/s; several processes have one thread each and run together:

| batch | one process, torch's threads | the same, folded | folded, as many processes as cores | one process, allocator untouched |
| --- | --- | --- | --- | --- |
{forward}

Reading, hashing, decoding and resizing alone, one process a core: {prepare:,.0f} images/s. The limit is {limit}.
"""


def peer_text(found: Mapping[str, Any]) -> str:
    if "forms" not in found:
        return f"## Indexing: beside clip-retrieval\n\n{found['why']}."
    rows = "\n".join(
        f"| {form} | {spread(f['plada'], 1)} | {spread(f['clip_retrieval'], 1)} | {f['ratio']:.2f} | {spread(f['plada_wall'])} | {spread(f['clip_retrieval_wall'])} | {f['wall_ratio']:.2f} |"
        for form, f in found["forms"].items()
    )
    forward = "\n".join(
        f"| {n} | {spread(found['forward_plada'][n], 1)} | {spread(found['forward_clip_retrieval'][n], 1)} |"
        for n in found["forward_plada"]
    )
    trials = ", ".join(f"{name}: {rate:.1f}" for name, rate in found["trials"].items())
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return f"""
## Indexing: beside clip-retrieval

`python benchmarks/indexing.py --only peer --clip-retrieval PYTHON`, on {found["machine"]}. {found["images"]} images of the
shared reference, ViT-B-32 of open_clip with random weights on both sides, each in its own environment (there: {versions}).
{found["rounds"]} rounds in turns. clip-retrieval's images/s with batch_size, num_prepro_workers in a trial: {trials}; the rounds
have {found["setting"][0]}, {found["setting"][1]}. plada is told nothing but the encoder.

| form | plada images/s | clip-retrieval images/s | ratio | plada s | clip-retrieval s | ratio of whole commands |
| --- | --- | --- | --- | --- | --- | --- |
{rows}

Images/s leave loading out; clip-retrieval's also leave out its last write. Forward pass alone on ready tensors:

| batch | plada's environment | clip-retrieval's |
| --- | --- | --- |
{forward}
"""


def kills_text(found: Mapping[str, Any]) -> str:
    stages = ", ".join(f"{name} {count}" for name, count in found["kills_by_stage"].items())
    wrong = "".join(f"- {text}\n" for text in [*found["wrong"], *found["worker_wrong"]])
    return f"""
## Indexing: kills

`python benchmarks/indexing.py --only kills`, on {found["machine"]}. {found["images"]:,} images in shards of {found["shard"]:,};
unbroken: {found["unbroken_seconds"]:.0f} s.

{found["kills"]} kills of the main process at random moments (seed {found["seed"]}; before the first image, while embedding, after the
last: {stages}), each continued with the same command, {found["builds"]} builds: **{found["kills_survived"]}** survived, that is, the build
ended with the rows, index.json (but times) and manifest of the unbroken run, no committed row was embedded again, and no process
was left. Embedded and lost, as far as progress lines tell, which may be a second of work behind: {found["embedded_twice"]:,} images in
all, {found["embedded_twice_most"]:,} at most by one kill. The last process was gone {found["outlived_most"]:.1f} s after the kill at the latest.

Of {found["worker_kills"]} kills of a process that the main one had started, {found["worker_kills_survived"]} ended like the unbroken run,
{found["worker_kills_finished"]} of them without being started again.
{wrong}"""


TEXT: dict[str, Callable[[dict[str, Any]], str]] = {
    "rate": rate_text, "peer": peer_text, "kills": kills_text, "search": search_speed.text,
}  # fmt: skip
SECTIONS = {"rate": "indexing rate", "peer": "indexing peer", "kills": "indexing kills", "search": "search"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="what unpack.py laid out: reference-tars, weights")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, comma-separated [default: all]")
    parser.add_argument("--clip-retrieval", type=Path, help="Python of an environment that has clip-retrieval")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each forward measurement and batch size")
    parser.add_argument(
        "--batches", help="sizes that the forward pass is tried with, comma-separated [default: 8 to 64]"
    )
    parser.add_argument("--images", type=int, default=40_000, help="of the rate")
    parser.add_argument("--peer-images", type=int, default=1024)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--worker-kills", type=int, default=5)
    parser.add_argument("--kill-images", type=int, default=12_000)
    parser.add_argument("--search-images", type=int, default=1_000_000, help="of 512 numbers, searched")
    parser.add_argument("--scan-images", type=int, default=14_200_000, help="of 64 numbers, scanned")
    parser.add_argument("--stores", type=Path, help="keep what is searched and scanned here, 6 GB, for the next time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scratch", type=Path, help="where the indexes are made [default: the system's]")
    parser.add_argument("--out", type=Path, help="write the sections into this document")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only: {', '.join(sorted(unknown))}: expected some of {', '.join(PARTS)}")
    if not (options.data / "reference-tars").is_dir():
        parser.error("--data: expected a folder with reference-tars, as unpack.py --as tars lays it out")
    summary: dict[str, Any] = {"type": "summary", **dict.fromkeys(HEADLINES)}
    for part in parts:
        with scratch(options.scratch) as folder:
            found = {"machine": machine(), **MEASURE[part](options, Path(folder))}
        text = TEXT[part](found)
        if options.out:
            write_section(options.out, SECTIONS[part], text)
        if not options.json:
            print(text, flush=True)
        summary |= {name: found[name] for name in HEADLINES if name in found}
        summary[part] = {name: value for name, value in found.items() if name not in HEADLINES}
    if options.json:
        print(json.dumps(summary))


if __name__ == "__main__":
    main()
