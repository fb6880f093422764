"""Write the golden payload of the current version for each coder; run once for each new version, never again.

python tests/golden/make.py
"""

from pathlib import Path

import numpy as np

from plada.payload.coders import CODERS
from plada.payload.container import VERSION
from plada.payload.payload import Payload


def main() -> None:
    rng = np.random.default_rng(20261123)
    positions = np.sort(rng.choice(5000, 400, replace=False))
    labels = rng.integers(0, 5, 400)
    classes = ("apple", "bread", "cheese", "crème brûlée", "soup")
    payload = Payload(
        positions, labels, classes, 5000, b"plada-ke", b"plada-co", {"target": "menu", "recipe": {"epochs": 10}}
    )
    for coder in CODERS:
        path = Path(__file__).with_name(f"v{VERSION}-{coder}.plada")
        if path.exists():
            raise SystemExit(f"{path} is there already: golden files are never rewritten")
        path.write_bytes(payload.encode(coder))
        np.savez_compressed(path.with_suffix(".npz"), positions=positions, labels=labels, classes=np.array(classes))


if __name__ == "__main__":
    main()
