"""Published layouts in miniature: the same files and lines as the archives have, with a few tiny images."""

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def image(path: Path, seed: int) -> None:
    """A tiny image that no other seed has, in the format of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed)).save(path)


def pixels(seed: int, side: int = 6) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def lines(path: Path, rows: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows))


def folders(root: Path, parts: dict[str, int], classes: Iterable[str], suffix: str = ".jpg") -> Path:
    """PART/CLASS/NUMBER, so many a class; an empty part means CLASS/NUMBER."""
    for part, count in parts.items():
        for name in classes:
            for number in range(count):
                image(root / part / name / f"{number}{suffix}", number)
    return root


def food101(root: Path) -> Path:
    keys = [f"{name}/{number}" for number in range(6) for name in ("pie", "soup")]
    for number, key in enumerate(keys):
        image(root / "images" / f"{key}.jpg", number)
    lines(root / "meta" / "train.txt", keys[:8])
    lines(root / "meta" / "test.txt", keys[8:])
    return root


def dtd(root: Path) -> Path:
    names = [f"{name}/{name}_{number:04d}.jpg" for number in range(6) for name in ("banded", "zigzagged")]
    for number, name in enumerate(names):
        image(root / "images" / name, number)
    for partition in (1, 2):
        turned = names[4 * (partition - 1) :] + names[: 4 * (partition - 1)]
        for part, start in (("train", 0), ("val", 4), ("test", 8)):
            lines(root / "labels" / f"{part}{partition}.txt", turned[start : start + 4])
    return root


def aircraft(root: Path) -> Path:
    lines(root / "data" / "variants.txt", ["707-320", "F/A-18", "Boeing 717"])
    for start, part in ((0, "train"), (6, "val"), (9, "test")):
        rows = []
        for number in range(start, start + (6 if part == "train" else 3)):
            image(root / "data" / "images" / f"{1000 + number:07d}.jpg", number)
            rows.append(f"{1000 + number:07d} {('707-320', 'F/A-18', 'Boeing 717')[number % 3]}")
        lines(root / "data" / f"images_variant_{part}.txt", rows)
    return root


def flowers102(root: Path) -> Path:
    from scipy.io import savemat  # type: ignore[import-untyped]

    for number in range(1, 13):
        image(root / "jpg" / f"image_{number:05d}.jpg", number)
    labels = [1 if number % 2 else 102 for number in range(12)]
    savemat(root / "imagelabels.mat", {"labels": np.array([labels], np.uint8)})
    ids = {"trnid": [1, 2, 5, 6], "valid": [3, 4], "tstid": [7, 8, 9, 10, 11, 12]}
    savemat(root / "setid.mat", {name: np.array([values], np.uint16) for name, values in ids.items()})
    return root


def pets(root: Path) -> Path:
    for part, numbers in (("trainval", range(1, 5)), ("test", range(5, 7))):
        rows = []
        for number in numbers:
            for name, label, species in (("Abyssinian", 1, 1), ("american_bulldog", 2, 2)):
                image(root / "images" / f"{name}_{number}.jpg", number)
                rows.append(f"{name}_{number} {label} {species} 1")
        lines(root / "annotations" / f"{part}.txt", rows)
    image(root / "images" / "Abyssinian_99.jpg", 99)  # the archive, too, has images that no list names
    return root


def cub(root: Path) -> Path:
    names = ["001.Black_footed_Albatross", "002.Laysan_Albatross"]
    lines(root / "classes.txt", [f"{number} {name}" for number, name in enumerate(names, 1)])
    images, labels, split = [], [], []
    for number in range(1, 21):
        path = f"{names[number % 2]}/bird_{number:04d}.jpg"
        image(root / "images" / path, number)
        images.append(f"{number} {path}")
        labels.append(f"{number} {number % 2 + 1}")
        split.append(f"{number} {int(number <= 10)}")
    lines(root / "images.txt", images)
    lines(root / "image_class_labels.txt", labels)
    lines(root / "train_test_split.txt", split)
    return root


def tiny_imagenet(root: Path) -> Path:
    rows = []
    lines(root / "wnids.txt", ["n02", "n01"])
    for number in range(4):
        for name in ("n01", "n02"):
            image(root / "train" / name / "images" / f"{name}_{number}.JPEG", number)
    for number, name in enumerate(("n02", "n01", "n01")):
        image(root / "val" / "images" / f"val_{number}.JPEG", number)
        rows.append(f"val_{number}.JPEG\t{name}\t0\t32\t44\t62")
    lines(root / "val" / "val_annotations.txt", rows)
    image(root / "test" / "images" / "test_0.JPEG", 7)
    return root


def gtsrb(root: Path, *, torchvision: bool = False) -> Path:
    training = "Training" if torchvision else "Final_Training/Images"
    for label in (0, 1):
        for number in range(4):
            image(root / "GTSRB" / training / f"{label:05d}" / f"00000_{number:05d}.ppm", number)
        lines(root / "GTSRB" / training / f"{label:05d}" / f"GT-{label:05d}.csv", ["Filename;Width"])
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for number in range(3):
        image(root / "GTSRB" / "Final_Test" / "Images" / f"{number:05d}.ppm", 50 + number)
        rows.append(f"{number:05d}.ppm;6;6;1;1;5;5;{int(number == 0)}")
    lines(root / "GT-final_test.csv", rows)
    return root


def places365(root: Path, *, data: str = "data_256", val: str = "val_256") -> Path:
    lines(root / "categories_places365.txt", ["/a/airfield 0", "/a/apartment_building/outdoor 1"])
    rows = []
    for number in range(1, 5):
        for label, name in enumerate(("/a/airfield", "/a/apartment_building/outdoor")):
            image(root / data / f"{name[1:]}/{number:08d}.jpg", number)
            rows.append(f"{name}/{number:08d}.jpg {label}")
    lines(root / "places365_train_standard.txt", rows)
    for number in (1, 2):
        image(root / val / f"Places365_val_{number:08d}.jpg", number)
    lines(root / "places365_val.txt", ["Places365_val_00000001.jpg 1", "Places365_val_00000002.jpg 0"])
    return root


def crc(root: Path) -> Path:
    folders(root, {"NCT-CRC-HE-100K": 4, "CRC-VAL-HE-7K": 2}, ("ADI", "TUM"), ".tif")
    return root


def caltech101(root: Path) -> Path:
    return folders(root, {"101_ObjectCategories": 10}, ("anchor", "ant", "BACKGROUND_Google"))


def cifar10(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    files = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    for number, name in enumerate(files):
        (root / name).write_bytes(b"".join(_cifar_record(4 * number + row, [row % 2]) for row in range(4)))
    lines(root / "batches.meta.txt", ["airplane", "automobile", ""])
    return root


def cifar100(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for start, name in ((0, "train.bin"), (8, "test.bin")):
        (root / name).write_bytes(b"".join(_cifar_record(start + row, [9, row % 3]) for row in range(8 - start // 2)))
    lines(root / "fine_label_names.txt", ["apple", "aquarium_fish", "baby"])
    lines(root / "coarse_label_names.txt", ["fruit"])
    return root


def _cifar_record(seed: int, labels: list[int]) -> bytes:
    return bytes(labels) + pixels(seed, 32).transpose(2, 0, 1).tobytes()


def stl10(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for start, part in ((0, "train"), (6, "test")):
        images = [pixels(start + row, 96).transpose(2, 1, 0).tobytes() for row in range(6 - start // 2)]
        (root / f"{part}_X.bin").write_bytes(b"".join(images))
        (root / f"{part}_y.bin").write_bytes(bytes(1 + row % 2 for row in range(6 - start // 2)))
    lines(root / "class_names.txt", ["airplane", "bird"])
    return root


def medmnist(root: Path, name: str = "bloodmnist", *, side: int = 28, grey: bool = False) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    classes = {"bloodmnist": 8, "dermamnist": 7, "retinamnist": 5}.get(name, 2)
    arrays: dict[str, Any] = {}
    for start, (part, count) in enumerate((("train", 2 * classes), ("val", classes), ("test", classes))):
        stack = np.stack([pixels(100 * start + row, side) for row in range(count)])
        arrays[f"{part}_images"] = stack[..., 0] if grey else stack
        arrays[f"{part}_labels"] = (np.arange(count) % classes).astype(np.uint8)[:, None]
    np.savez_compressed(root / (f"{name}.npz" if side == 28 else f"{name}_{side}.npz"), **arrays)
    return root


def parquet(
    root: Path,
    parts: dict[str, int],
    *,
    names: list[str] | None = None,
    paths: Callable[[int], str | None] = lambda row: f"image_{row}.png",
    label: Callable[[int], int | str | None] = lambda row: row % 2,
    shards: int = 1,
) -> Path:
    """SPLIT-0000i-of-0000n.parquet with image and label, and Hugging Face's description where there are `names`."""
    root.mkdir(parents=True, exist_ok=True)
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if names else None
    for part, count in parts.items():
        rows = [{"bytes": png(pixels(row)), "path": paths(row)} for row in range(count)]
        table = pa.table(
            {
                "image": pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
                "label": pa.array([label(row) for row in range(count)]),
            }
        ).replace_schema_metadata(metadata)
        size = -(-count // shards)
        for shard in range(shards):
            file = root / f"{part}-{shard:05d}-of-{shards:05d}.parquet"
            pq.write_table(table.slice(shard * size, size), file, row_group_size=3)
    return root


def png(image: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
