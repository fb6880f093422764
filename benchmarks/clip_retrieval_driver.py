"""clip-retrieval's own inference with random weights. Run by the Python of the environment that it is installed in.

    OTHER/bin/python benchmarks/clip_retrieval_driver.py infer INPUT OUTPUT files|webdataset BATCH WORKERS
    OTHER/bin/python benchmarks/clip_retrieval_driver.py forward BATCH,BATCH SECONDS

Two things are not its own: open_clip is told to make the architecture with random weights, since weights are downloads, and
a `pkg_resources` is made where setuptools has none any more, which its dependency `clip` imports. Images only, as its README
has it for a reference without captions. The last line is JSON.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import sys
import time
import traceback
import types
from pathlib import Path
from typing import Any

MODEL = "open_clip:ViT-B-32/random"

try:
    importlib.import_module("pkg_resources")
except ImportError:
    # At the top of the module, so that the processes it spawns have it too.
    importlib.import_module("packaging.version")
    stand_in: Any = types.ModuleType("pkg_resources")
    stand_in.packaging = sys.modules["packaging"]
    sys.modules["pkg_resources"] = stand_in


def random_weights() -> None:
    """open_clip.create_model_and_transforms without weights, whatever tag is asked for."""
    open_clip: Any = importlib.import_module("open_clip")
    make = open_clip.create_model_and_transforms

    def made(name: str, pretrained: str | None = None, **options: Any) -> Any:
        return make(name, pretrained=None, **options)

    open_clip.create_model_and_transforms = made


def infer(source: Path, output: Path, form: str, batch: int, workers: int) -> dict[str, float]:
    """Run its main; its own counters give the rate: all seconds but those of loading and of the last write."""
    run = importlib.import_module("clip_retrieval.clip_inference.main").main
    random_weights()
    paths = sorted(str(path) for path in source.glob("*.tar"))
    several = "{" + ",".join(paths) + "}" if len(paths) > 1 else "".join(paths)
    with contextlib.redirect_stdout(sys.stderr):
        run(
            input_dataset=several if form == "webdataset" else str(source),
            output_folder=str(output),
            input_format=form,
            batch_size=batch,
            num_prepro_workers=workers,
            enable_text=False,
            enable_image=True,
            enable_metadata=False,
            clip_model=MODEL,
            output_partition_count=1,
        )
    import numpy as np

    stats = json.loads((output / "stats" / "0.json").read_text())
    embeddings = np.load(output / "img_emb" / "img_emb_0.npy", mmap_mode="r")
    return {
        "images": len(embeddings),
        "counted": stats["sample_count"],
        "seconds": stats["total_duration"],
        "read": stats["read_duration"],
        "inference": stats["inference_duration"],
    }


def forward(batches: list[int], seconds: float) -> dict[int, float]:
    """Images a second of the model as it loads it, on tensors that are ready, for each batch size."""
    import torch

    random_weights()
    with contextlib.redirect_stdout(sys.stderr):
        model, _, _ = importlib.import_module("all_clip").load_clip(clip_model=MODEL, use_jit=False)
    found: dict[int, float] = {}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.no_grad():
        for n in batches:
            images = torch.randn(n, 3, 224, 224, device=device)
            model.encode_image(images)
            done, start = 0, time.perf_counter()
            while time.perf_counter() - start < seconds:
                model.encode_image(images).cpu()
                done += n
            found[n] = done / (time.perf_counter() - start)
    return found


if __name__ == "__main__":
    task, *rest = sys.argv[1:]
    if task == "forward":
        print(json.dumps(forward([int(n) for n in rest[0].split(",")], float(rest[1]))))
    else:
        try:
            # Its logger, another process, leaves a line open.
            print("\n" + json.dumps(infer(Path(rest[0]), Path(rest[1]), rest[2], int(rest[3]), int(rest[4]))))
        except BaseException:
            # Its logger is a process that is only told of a good end: after a failure it would be waited for for ever.
            traceback.print_exc()
            for child in multiprocessing.active_children():
                child.kill()
            sys.stderr.flush()
            os._exit(1)
