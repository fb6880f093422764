"""What a network does on tensors that are ready: images a second of its forward pass alone. A process of its own.

    python benchmarks/indexing_forward.py --encoder timm:mobilenetv2_100 --weights FILE --model-arg pad_type=same --image-size 96

The module is made by timm or open_clip themselves, in evaluation mode, channels last, under torch.inference_mode(); on a GPU
under autocast to float16. Nothing of plada is in it but, with --malloc plada, what plada tells the C allocator, and with --fold
the folding of batch norms that plada's encoders do on a CPU.
"""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from plada.common.packages import import_timm
from plada.encoders.batch_norm import fold_batch_norms
from plada.networks.network import keep_memory


def module_of(
    encoder: str, weights: Path | None, arguments: Mapping[str, Any], size: int | None
) -> tuple[Any, Any, int]:
    """(module, its function from images [n, 3, size, size] to features, size) of `timm:ARCH` or `open_clip:ARCH/random`."""
    timm = import_timm()
    kind, _, name = encoder.partition(":")
    if kind == "open_clip":
        module = importlib.import_module("open_clip").create_model(name.partition("/")[0])
        side = module.visual.image_size
        return module.eval(), module.encode_image, size or (side[0] if isinstance(side, tuple) else side)
    module = timm.create_model(name, **arguments)
    if weights is not None:
        import safetensors.torch

        module.load_state_dict(safetensors.torch.load_file(weights))
    wanted = size or int(timm.data.resolve_model_data_config(module)["input_size"][-1])
    return module.eval(), lambda x: module.forward_head(module.forward_features(x), pre_logits=True), wanted


def rates(
    encoder: str, weights: Path | None, arguments: Mapping[str, Any], size: int | None, *,
    batches: list[int], seconds: float, threads: int | None, device: str, fold: bool, ready: Callable[[], None],
) -> dict[int, float]:  # fmt: skip
    """Images a second for each batch size, each measured for `seconds` after a warm-up; `ready` is called before."""
    import_timm()
    import torch

    if threads:
        torch.set_num_threads(threads)
    where = torch.device(device)
    module, forward, side = module_of(encoder, weights, arguments, size)
    module.to(where, memory_format=torch.channels_last)
    if fold:
        fold_batch_norms(module, forward, side)
    torch.manual_seed(0)
    found: dict[int, float] = {}
    with torch.inference_mode(), torch.autocast(where.type, torch.float16, enabled=where.type == "cuda"):
        inputs = {n: torch.randn(n, 3, side, side, device=where).to(memory_format=torch.channels_last) for n in batches}
        for images in inputs.values():
            for _ in range(3):
                forward(images)
        ready()
        for n, images in inputs.items():
            done, start = 0, time.perf_counter()
            while True:
                forward(images)
                done += n
                if where.type == "cuda" and done % (32 * n) == 0:
                    torch.cuda.synchronize()
                if time.perf_counter() - start >= seconds:
                    break
            if where.type == "cuda":
                torch.cuda.synchronize()
            found[n] = done / (time.perf_counter() - start)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--model-arg", action="append", default=[])
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--batches", default="16,64")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--threads", type=int, help="of torch [default: torch's own]")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--malloc", choices=["plada", "default"], default="plada")
    parser.add_argument("--fold", action="store_true", help="fold batch norms into convolutions first")
    parser.add_argument(
        "--wait", action="store_true", help="say that it is ready, then wait for a line on standard input"
    )
    options = parser.parse_args()
    if options.malloc == "plada":
        keep_memory()

    def ready() -> None:
        if options.wait:
            print("ready", flush=True)
            sys.stdin.readline()

    found = rates(
        options.encoder, options.weights, dict(pair.split("=", 1) for pair in options.model_arg), options.image_size,
        batches=[int(n) for n in options.batches.split(",")], seconds=options.seconds, threads=options.threads,
        device=options.device, fold=options.fold, ready=ready,
    )  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    main()
