"""Odd targets: names of parts, classes of few images, lists beside images, Hugging Face's tables, what is no target."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.inputs_material import Case, World, classes, png, table, written
from plada.errors import DataError, PladaError, RequestError, Unreadable
from plada.sources.decode import decode
from plada.sources.registry import open_target
from plada.sources.targets.target import Target
from plada.trainer.evaluation_images import open_test, with_classes

PAIR = {"bright": 5, "dim": 5}
Shape = tuple[tuple[str, ...], int, int, int]  # classes, and images of training, validation, test


def _shape(target: Target) -> Shape:
    return target.classes, len(target.train), len(target.validation), 0 if target.test is None else len(target.test)


def _opened(world: World, make: Callable[[Path], str | Path]) -> Target:
    return open_target(make(world.place), world.place / "home")


def _parts(name: str, make: Callable[[Path], str | Path], answer: Shape) -> Case:
    return Case(kind="targets", name=name, ask=lambda world: _shape(_opened(world, make)), answer=answer)


def _noted(name: str, make: Callable[[Path], str | Path], says: str) -> Case:
    return Case(kind="targets", name=name, ask=lambda world: _opened(world, make).note, says=says)


def _refused(name: str, make: Callable[[Path], str | Path], says: str, error: type[PladaError] = DataError) -> Case:
    return Case(kind="targets", name=name, ask=lambda world: _shape(_opened(world, make)), error=error, says=says)


def _split(place: Path, parts: tuple[str, ...] = ("train", "test"), counts: dict[str, int] = PAIR) -> Path:
    for part in parts:
        classes(place / "t" / part, counts)
    return place / "t"


def _folders() -> Iterator[Case]:
    both = ("bright", "dim")
    for parts, answer in (
        (("train", "test"), (both, 8, 2, 10)),
        (("train", "val"), (both, 10, 10, 0)),
        (("train", "val", "test"), (both, 10, 10, 10)),
        (("Train", "Test"), (both, 8, 2, 10)),
        (("training_set", "test_set"), (both, 8, 2, 10)),
        (("seg_train", "seg_test"), (both, 8, 2, 10)),
        (("train", "dev", "eval"), (both, 10, 10, 10)),
        (("train",), (both, 8, 2, 0)),
    ):
        yield _parts(f"folders {', '.join(parts)}", lambda place, parts=parts: _split(place, parts), answer)  # type: ignore[misc]
    yield _parts("class folders alone", lambda place: classes(place / "t", PAIR), (both, 6, 2, 2))
    yield _parts("one image a class", lambda place: classes(place / "t" / "train", dict.fromkeys("abcde", 1)).parent,
                 (tuple("abcde"), 5, 0, 0))  # fmt: skip
    yield _parts("a class of one image trains", lambda place: classes(place / "t" / "train", {**PAIR, "one": 1}).parent,
                 ((*both, "one"), 9, 2, 0))  # fmt: skip
    yield _parts("hidden folders and macOS's", _littered, (both, 6, 2, 2))
    yield _parts("a wrapped part", lambda place: _wrapped(place), (both, 8, 2, 10))
    yield _parts(
        "names beyond ASCII", lambda place: classes(place / "t", {"größe": 5, "日本": 5}), (("größe", "日本"), 6, 2, 2)
    )
    yield _parts(
        "names with blanks and commas",
        lambda place: classes(place / "a, b", {"x, y": 5, "z": 5}),
        (("x, y", "z"), 6, 2, 2),
    )
    yield _parts("a file:// URL", lambda place: _split(place / "a b").as_uri(), (both, 8, 2, 10))
    yield Case(kind="targets", name="--target .", ask=_here, answer=("t", ("bright", "dim")))
    yield _noted("how it was split", lambda place: classes(place / "t", PAIR), "test: 20% of all images, split here")
    yield _noted(
        "unusual names of parts",
        lambda place: _split(place, ("seg_train", "seg_test")),
        "train: seg_train/; test: seg_test/",
    )
    yield _noted("what is passed over", _with_jfif, "test: passed over 1 .jfif")
    yield _noted("class names of two Unicode forms", lambda place: classes(place / "t", {"caf\u00e9": 5, "cafe\u0301": 5}),
                 "1 class names differ from others only in their Unicode form")  # fmt: skip
    yield _noted(
        "a folder that is no part", lambda place: _split(place, ("train", "test", "test_old2")), "left out: test_old2/"
    )
    yield _noted("unlabelled images", lambda place: _split(place, ("train", "test", "pred")), "left out: pred/")


def _here(world: World) -> Any:
    with contextlib.chdir(classes(world.place / "t", PAIR)):
        target = open_target(".", world.place / "home")
        return target.name, target.classes


def _littered(place: Path) -> Path:
    classes(place / "t", PAIR)
    for name in (".git/a.png", "__MACOSX/bright/._0.png"):
        written(place / "t" / name, png())
    return place / "t"


def _wrapped(place: Path) -> Path:
    for part in ("train", "test"):
        classes(place / "t" / f"seg_{part}" / f"seg_{part}", PAIR)
    return place / "t"


def _with_jfif(place: Path) -> Path:
    written(_split(place) / "test" / "dim" / "a.jfif")
    return place / "t"


def _no_targets() -> Iterator[Case]:
    for name, make, says, error in (
        ("a place that is not there", lambda place: place / "none", "there is none", RequestError),
        ("an empty folder", lambda place: place, "there is no such layout here", RequestError),
        ("a file", lambda place: written(place / "a.txt"), "only a file here", RequestError),
        ("a remote place", lambda _: "https://x/y", "must lie on this machine", RequestError),
        ("a folder of images", lambda place: written(place / "t" / "a.png", png()).parent, "no such layout", RequestError),
        ("one class folder", lambda place: classes(place / "t", {"a": 3}), "no such layout", RequestError),
        ("a packed target", lambda place: written(place / "x.tar.gz").parent, "x.tar.gz: unpack it first", RequestError),
        ("a folder of save_to_disk", lambda place: written(place / "d" / "data-0.arrow").parent, "load_from_disk", RequestError),
        ("test/ alone", lambda place: _split(place, ("test",)), "no train/ beside it", RequestError),
        ("two folders for a part", lambda place: _split(place, ("train", "val", "valid")), "are both the validation part", RequestError),
        ("a part that is not understood", lambda place: _split(place, ("train", "test2")), "test2/ looks like a part of a split and is not understood", RequestError),
        ("an empty class", lambda place: _empty_class(place), "no image of class 'new'", DataError),
        ("another class in the test", _other_class, "class 'zebra' has no training images", DataError),
    ):  # fmt: skip
        yield _refused(name, make, says, error)
    for name, others in (
        ("train.parquet", ()),
        ("bloodmnist.npz", ()),
        ("batches.meta", ("data_batch_1", "test_batch")),
        ("images.txt", ("train_test_split.txt", "classes.txt", "image_class_labels.txt", "images/a/b.jpg")),
    ):
        yield Case(
            kind="targets", name=f"a pipe called {name} is not waited for", says="pipe|no such layout",
            ask=lambda world, name=name, others=others: _pipe(world, name, others),  # type: ignore[misc]
        )  # fmt: skip


def _empty_class(place: Path) -> Path:
    (_split(place) / "train" / "new").mkdir()
    return place / "t"


def _without_list(place: Path) -> Path:
    (_dtd(place) / "labels" / "val1.txt").unlink()
    return place / "t"


def _other_class(place: Path) -> Path:
    classes(_split(place) / "test", {"zebra": 2})
    return place / "t"


def _pipe(world: World, name: str, others: tuple[str, ...]) -> str:
    for other in others:
        written(world.place / other, "1 x\n")
    os.mkfifo(world.place / name)
    try:
        return str(open_target(world.place, world.place / "home").classes)
    except PladaError as err:
        return str(err)


def _lists() -> Iterator[Case]:
    yield _parts(
        "lists that begin with a byte order mark",
        lambda place: _dtd(place, "\ufeff"),
        (("banded", "zigzagged"), 4, 2, 2),
    )
    yield _parts(
        "lists with Windows's line ends", lambda place: _dtd(place, "", "\r\n"), (("banded", "zigzagged"), 4, 2, 2)
    )
    for name, file, content, says in (
        ("a list of another encoding", "test1.txt", b"\xff\xfe\n", "cannot be read"),
        ("a list that names no image", "test1.txt", b"banded/none.jpg\n", "names banded/none, which is not in"),
        ("a list that leads out", "test1.txt", b"../../x.jpg\n", "which is not in"),
    ):
        yield _refused(
            name,
            lambda place, file=file, content=content: written(_dtd(place) / "labels" / file, content).parents[1],  # type: ignore[misc]
            says,
        )
    yield _refused(
        "a list that is missing",
        lambda place: _without_list(place),
        "val1.txt",
    )
    for name, change, says in (
        ("CIFAR cut", lambda data: data[:-5], "not a whole number of records"),
        ("CIFAR empty", lambda _: b"", "empty|not a whole number"),
        ("CIFAR with a wrong label", lambda data: b"\x63" + data[1:], "label|class"),
    ):
        yield _refused(name, lambda place, change=change: _cifar(place, change), says)  # type: ignore[misc]
    for name, content in (
        ("a row without a class", b"Filename;ClassId\n00000.ppm\n"),
        ("bytes that are no text", b"Filename;ClassId\n\xff;1\n"),
    ):
        yield _refused(
            f"GTSRB: {name}",
            lambda place, content=content: _gtsrb(place, content),  # type: ignore[misc]
            "class number|cannot be read",
        )


def _dtd(place: Path, mark: str = "", end: str = "\n") -> Path:
    names = [f"{name}/{number}.jpg" for number in range(4) for name in ("banded", "zigzagged")]
    classes(place / "t" / "images", {"banded": 4, "zigzagged": 4}, ".jpg")
    for part, start, stop in (("train", 0, 4), ("val", 4, 6), ("test", 6, 8)):
        written(place / "t" / "labels" / f"{part}1.txt", mark + "".join(f"{name}{end}" for name in names[start:stop]))
    return place / "t"


def _cifar(place: Path, change: Callable[[bytes], bytes]) -> Path:
    records = b"".join(bytes([row % 2]) + bytes([row]) * 3072 for row in range(4))
    for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        written(place / "t" / name, change(records) if name == "data_batch_2.bin" else records)
    written(place / "t" / "batches.meta.txt", "airplane\nautomobile\n")
    return place / "t"


def _gtsrb(place: Path, content: bytes) -> Path:
    classes(place / "t" / "GTSRB" / "Training", {"00000": 4, "00001": 4})
    written(place / "t" / "GTSRB" / "Final_Test" / "Images" / "00000.png", png())
    written(place / "t" / "GT-final_test.csv", content)
    return place / "t"


def _hugging_face() -> Iterator[Case]:
    yield _parts("Hugging Face's tables", lambda place: _tables(place), (("0", "1"), 4, 2, 4))
    yield _parts("classes as text", lambda place: _tables(place, ["cat", "dog"] * 3), (("cat", "dog"), 4, 2, 4))
    yield Case(
        kind="targets", name="a null image is unreadable", error=Unreadable, says="empty: 0 bytes",
        ask=lambda world: [decode(data) for _, data in _opened(world, lambda place: _tables(place, null=True)).train.collection.stream(0, 6)],
    )  # fmt: skip
    yield _refused("a row without a class", lambda place: _tables(place, [0, None, 1, 0, 1, 0]), "rows without a label")
    yield _refused(
        "no column of classes",
        lambda place: table(place / "t" / "train.parquet", {"image": _images(3)}).parent,
        "no label column",
    )

    def missing(place: Path) -> Path:
        return (_tables(place) / "train.parquet").rename(place / "t" / "train-00000-of-00002.parquet").parent

    yield _refused("a missing file", missing, r"files are missing: 1 of 2 \(train-00001-of-00002\)")
    yield _refused(
        "a damaged table",
        lambda place: written(_tables(place) / "train.parquet", b"PAR1").parent,
        "not a whole parquet file",
    )


def _images(count: int, *, null: bool = False) -> Any:
    rows = [{"bytes": None if null and row == 1 else png(row), "path": f"{row}.png"} for row in range(count)]
    return pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def _tables(place: Path, labels: list[Any] | None = None, *, null: bool = False) -> Path:
    chosen = [0, 1] * 3 if labels is None else labels
    table(place / "t" / "train.parquet", {"image": _images(6, null=null), "label": chosen})
    return table(
        place / "t" / "test.parquet", {"image": _images(4), "label": ([0, 1] if labels is None else labels[:2]) * 2}
    ).parent


def _tests() -> Iterator[Case]:
    """What a model is tested on: classes are mapped by name."""
    own = ("dim", "mist", "bright")

    def counts(make: Callable[[Path], Path]) -> Callable[[World], Any]:
        def ask(world: World) -> Any:
            target = with_classes(
                own, open_test(make(world.place), world.place / "home", held_out=False), whose="the model's"
            )
            assert target.test is not None
            return np.bincount(target.test.labels, minlength=3).tolist()

        return ask

    uneven = {"bright": 2, "dim": 3}
    for name, make, answer in (
        ("train/ and test/", lambda place: _split(place, counts=uneven), [3, 0, 2]),
        ("test/ alone", lambda place: _split(place, ("test",), uneven), [3, 0, 2]),
        ("val/ alone", lambda place: _split(place, ("val",), uneven), [3, 0, 2]),
        ("class folders directly", lambda place: classes(place / "t", uneven), [3, 0, 2]),
        ("one class directly", lambda place: classes(place / "t", {"bright": 4}), [0, 0, 4]),
    ):
        yield Case(kind="targets", name=f"tested on {name}", ask=counts(make), answer=answer)
    for name, make, says, error in (
        ("unknown classes", lambda place: classes(place / "t", {"Dim": 2, "bright": 2}), "unknown Dim", DataError),
        ("an empty folder", lambda place: place, "a target is a folder with", RequestError),
    ):
        yield Case(kind="targets", name=f"tested on {name}", ask=counts(make), error=error, says=says)


CASES: tuple[Case, ...] = (*_folders(), *_no_targets(), *_lists(), *_hugging_face(), *_tests())
