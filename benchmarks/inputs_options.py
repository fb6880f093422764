"""Odd requests: options that do not fit, names that are places, what is trained, predicted and evaluated, JSON and help."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import plada
from benchmarks.faults_material import INDEX, Material
from benchmarks.inputs_material import Case, Ended, World, classes, command, picture, png, stored, written
from plada.cli import app
from plada.common.text import split_names
from plada.errors import DataError, PladaError, RequestError, UnknownName
from plada.networks.network import NetworkSpec, build_network
from plada.networks.recipe import Recipe
from plada.networks.trial import try_batch
from plada.selection.auto import enough_bytes
from plada.selection.corrections import read_keys
from plada.trainer.model_file import read_card, save_model

Words = Callable[[World], list[str | Path]]


def _ends(name: str, words: Words, says: str, status: int = 0) -> Case:
    """A command that ends with this status and shows this."""
    return Case(
        kind="options", name=name, says=rf"(?s)^status {status}\n.*(?:{says})",
        ask=lambda world: command(*words(world), "--home", world.material.home),
    )  # fmt: skip


def _refused(name: str, ask: Callable[[World], Any], says: str, error: type[PladaError] = RequestError) -> Case:
    return Case(kind="options", name=name, ask=ask, error=error, says=says)


def _value(name: str, ask: Callable[[World], Any], answer: Any) -> Case:
    return Case(kind="options", name=name, ask=ask, answer=answer)


def _select(world: World, target: str | Path, *words: str | Path) -> list[str | Path]:
    return [
        "select", "--index", INDEX, "--target", target, "--budget", "4kB", "--keep", "30%", "--rule", "nearest",
        "-o", world.place / "s.plada", *words,
    ]  # fmt: skip


def _usage() -> Iterator[Case]:
    for words, says in (
        (("select",), "plada select: Missing option '--target'"),
        (("select", "--nope"), "No such option: --nope"),
        (("inspect",), "plada inspect: Missing argument 'payload'"),
        (("search", "x", "-k", "many"), "plada search: Invalid value for '-k'"),
        (("predict", "x.png", "--model", "m", "--top", "0"), "plada predict: Invalid value for '--top'"),
        (("no-such-command",), "plada: No such command 'no-such-command'"),
    ):
        yield _value(
            f"plada {' '.join(words)} --json",
            lambda _, words=words, says=says: _object(command(*words, "--json"), says),  # type: ignore[misc]
            (2, "RequestError", True),
        )
    for words in (("-h",), ("select", "-h"), ("index", "-h")):
        yield Case(
            kind="options",
            name=f"plada {' '.join(words)}",
            says=r"(?s)^status 0\n.*Usage: plada",
            ask=lambda _, words=words: command(*words),  # type: ignore[misc]
        )
    yield _value("every default is in the help", lambda _: _defaults_missing(), [])
    for words in (("datasets",), ("doctor",)):
        yield _value(
            f"plada {words[0]} --json --quiet",
            lambda _, words=words: [
                json.loads(line)["type"] for line in command(*words, "--json", "--quiet").stdout.splitlines()
            ],  # type: ignore[misc]
            ["summary"],
        )
    yield _value("plada search --json --quiet", lambda world: _types(
        command("search", "position:1", "--index", INDEX, "--home", world.material.home, "--json", "--quiet")), ["summary"])  # fmt: skip


def _types(ended: Ended) -> list[str]:
    return [json.loads(line)["type"] for line in ended.stdout.splitlines()]


def _object(ended: Ended, says: str) -> Any:
    error = json.loads(ended.stderr)
    return ended.status, error["kind"], says in error["message"]


def _defaults_missing() -> list[str]:
    """Commands whose help shows fewer "[default: ...]" than the command has."""
    import typer

    found = []
    group: Any = typer.main.get_command(app)
    for name, each in group.commands.items():
        context = each.make_context(name, [], resilient_parsing=True)
        wanted = sum(
            1
            for option in each.params
            if (record := option.get_help_record(context)) and "[default: " in record[1].replace("\\[", "[")
        )
        shown = str(command(name, "--help")).replace("\n", " ").count("[default: ")
        if shown < wanted:
            found.append(f"{name}: {shown} of {wanted}")
    return found


def _network(spec: NetworkSpec, images: int = 10, **recipe: int) -> None:
    chosen = Recipe().changed(recipe)
    try_batch(build_network(spec, classes=2, image_size=chosen.image_size), chosen, images)


def _students() -> Iterator[Case]:
    for name, spec, recipe, says in (
        ("--image-size 1", NetworkSpec(name="small_cnn", image_size=1), {}, "--image-size 1: expected 8 to"),
        ("--image-size -4", NetworkSpec(name="small_cnn", image_size=-4), {}, "--image-size -4"),
        ("--image-size 100000", NetworkSpec(name="small_cnn", image_size=100_000), {}, "--image-size 100000"),
        (
            "a ViT with an odd --image-size",
            NetworkSpec(name="test_vit", image_size=161),
            {},
            "takes no images of 161 x 161 pixels",
        ),
        (
            "in_chans=1",
            NetworkSpec(name="test_resnet", model_args={"in_chans": 1}),
            {},
            "in_chans=1: images have 3 channels",
        ),
        (
            "in_chans=4",
            NetworkSpec(name="test_resnet", model_args={"in_chans": 4}),
            {},
            "in_chans=4: images have 3 channels",
        ),
        (
            "batch norms and batch_size=1",
            NetworkSpec(name="test_resnet", image_size=16),
            {"batch_size": 1},
            "cannot learn from one image",
        ),
        ("batch_size=0", NetworkSpec(name="small_cnn"), {"batch_size": 0}, "batch_size"),
        ("epochs=0", NetworkSpec(name="small_cnn"), {"epochs": 0}, "epochs"),
        ("a recipe's image_size=1", NetworkSpec(name="small_cnn"), {"image_size": 1}, "--image-size 1:|image_size"),
        ("an unknown part of a recipe", NetworkSpec(name="small_cnn"), {"epoch": 1}, "epoch"),
    ):
        yield Case(
            kind="options", name=name, error=RequestError if "unknown" not in name else UnknownName, says=says,
            ask=lambda _, spec=spec, recipe=recipe: _network(spec, **recipe),  # type: ignore[misc]
        )  # fmt: skip
    yield _refused(
        "batch norms and one image",
        lambda _: _network(NetworkSpec(name="test_resnet", image_size=16), 1),
        "cannot learn from one",
    )
    yield _value(
        "batch_size=1 without batch norms",
        lambda _: _network(NetworkSpec(name="small_cnn", image_size=16), batch_size=2),
        None,
    )
    yield _refused("an unknown network", lambda _: _network(NetworkSpec(name="resnet18x")), "resnet18", UnknownName)
    for seed in (-1, 1 << 64):
        yield _refused(
            f"select with seed {seed}",
            lambda _, seed=seed: plada.select("none", target="digits", seed=seed),  # type: ignore[misc]
            "expected a whole number from 0 to",
        )
        yield _refused(
            f"verify with seed {seed}",
            lambda _, seed=seed: plada.verify("glyphs:count=3", seed=seed),  # type: ignore[misc]
            "seed",
        )


def _models() -> Iterator[Case]:
    def model(world: World) -> Path:
        return world.material.file("small.safetensors")

    def odd(world: World) -> list[str | Path]:
        os.mkfifo(world.place / "pipe")
        return [
            "predict", written(world.place / "a.txt", "words"), written(world.place / "b.png", stored(picture(0, (32, 32)))),
            written(world.place / "c.png", b""), world.place / "pipe", "--model", model(world), "--quiet",
        ]  # fmt: skip

    for name, says in (
        ("predict what is no picture", "3 of 4 pictures cannot be read"),
        ("predict answers the others", r"b\.png"),
        ("predict a pipe", "a pipe, which may have no end"),
    ):
        yield Case(kind="options", name=name, says=rf"(?s)^status 5\n.*{says}", ask=lambda world: command(*odd(world)))
    yield _refused("predict with a payload as model", lambda world: plada.predict(
        written(world.place / "b.png", png()), model=world.material.file("old.plada")), "old.plada", DataError)  # fmt: skip
    for bad in (np.nan, np.inf):
        yield _refused(
            f"weights that are {bad}",
            lambda world, bad=bad: plada.predict(written(world.place / "b.png", png()), model=_spoilt(world, bad)),  # type: ignore[misc]
            "weights that are not numbers|its answers are not finite",
            DataError,
        )

    def own(place: Path) -> Path:
        return classes(place / "t", {"dim": 3, "bright": 4})

    yield _value("evaluate class folders in another order", lambda world: [
        (each.name, each.images) for each in plada.evaluate(model(world), target=own(world.place)).evaluation.classes
    ], [("bright", 4), ("dim", 3)])  # fmt: skip
    yield _refused("evaluate unknown classes", lambda world: plada.evaluate(model(world), target=classes(world.place / "t", {"cat": 3, "dog": 3})),
                   "unknown cat", DataError)  # fmt: skip
    yield _ends("evaluate says which class has no image", lambda world: ["evaluate", model(world), "--target", classes(world.place / "t", {"dim": 3})],
                "no image of 1 of the model's 2 classes")  # fmt: skip


def _spoilt(world: World, bad: float) -> Path:
    import safetensors.torch

    source, place = world.material.file("small.safetensors"), world.place / "m.safetensors"
    state: Any = safetensors.torch.load_file(source)
    next(tensor for name, tensor in state.items() if name.endswith("weight")).view(-1)[0] = bad
    save_model(place, state, read_card(source))
    return place


def _searches() -> Iterator[Case]:
    def search(query: str, **more: Any) -> Callable[[World], Any]:
        return lambda world: (
            plada.search(query, index=INDEX, home=world.material.home, **{"k": 3, **more})[0][0].position
        )

    yield _value("position:7", search("position:7"), 7)
    yield _value("key: and a whole key", lambda world: search(f"key:{_key(world.material, 9)}")(world), 9)
    yield _value("key: and the beginning of one key", search("key:a/026"), 87)
    for query, says in (
        ("key:a/", "several keys begin so, such as"),
        ("key:zebra", "no key of the index begins so"),
        ("key:", "expected key: and a key"),
        ("position:100000", "100000"),
        ("position:-1", "-1|position"),
        ("no such file.png", "expected an image file, position:NUMBER, key:KEY|text tower|words"),
    ):
        yield _refused(query, search(query), says)
    for k in (0, -1, 100_000):
        yield _refused(f"k = {k}", search("position:1", k=k), "expected 1 to")
    yield _refused(
        "an unknown index",
        lambda world: plada.search("position:1", index="picture", home=world.material.home),
        "pictures",
        UnknownName,
    )


def _key(material: Material, position: int) -> str:
    return str(plada.open_index(INDEX, home=material.home).keys([position])[0])


def _places() -> Iterator[Case]:
    both = {"bright": 5, "dim": 5}
    for text, answer in (
        ("digits, x ,y", ["digits", "x", "y"]), ("/data/a,b", ["/data/a,b"]), ("/data/a,b,digits", ["/data/a,b", "digits"]),
    ):  # fmt: skip
        yield _value(f"--targets {text}", lambda _, text=text: split_names(text, {"/data/a,b"}.__contains__), answer)  # type: ignore[misc]
    yield _value(
        "a payload as a file:// URL",
        lambda world: (
            plada.read_payload(
                _odd_copy(world).as_uri(), reference=world.material.pictures, home=world.material.home
            ).classes
        ),
        ("bright", "dim"),
    )
    yield _refused(
        "a payload that is not there",
        lambda world: plada.read_payload(f"file://{world.place}/none.plada"),
        "cannot be read",
    )
    yield _value("keys in a list that begins with a byte order mark", lambda world: read_keys(
        written(world.place / "keys.txt", "\ufeffa/1\r\n\r\n# no key\na/2\n")), ["a/1", "a/2"])  # fmt: skip
    for points, enough in (
        ([(10, 0.5), (20, 0.502), (40, 0.9), (80, 0.901)], 40), ([(10, 0.9), (20, 0.8), (40, 0.9049)], 10), ([(10, 0.5), (20, 0.6)], None),
    ):  # fmt: skip
        yield _value(f"more bytes than {enough} do not pay", lambda _, points=points: enough_bytes(points), enough)  # type: ignore[misc]
    yield _ends(
        "select --target with a comma", lambda world: _select(world, classes(world.place / "a,b", both)), "s.plada"
    )
    yield _ends("a linear student says its index", lambda world: [
        "train", world.material.file("old.plada"), "--reference", world.material.pictures, "--student", "linear", "-o", world.place / "m.safetensors",
    ], rf"\b{INDEX}\b")  # fmt: skip


def _odd_copy(world: World) -> Path:
    return written(world.place / "a, b%20.plada", world.material.file("old.plada").read_bytes())


def _choices() -> Iterator[Case]:
    yield _ends("a target of one image a class", lambda world: _select(world, classes(world.place / "t" / "train", {"bright": 1, "dim": 1}).parent),
                "a single image of bright, dim: it trains, nothing judges it")  # fmt: skip
    yield _ends("one class alone", lambda world: _select(world, _one_class(world.place)),
                "'bright' is the only class")  # fmt: skip
    yield _ends(
        "test equal to train",
        lambda world: _select(world, _same_test(world.place)),
        "% of its test images are also training images",
    )
    yield _ends("a budget above the whole", lambda world: [
        "select", "--index", INDEX, "--target", world.material.target, "--budget", "1MB", "--rule", "nearest", "-o", world.place / "s.plada",
    ], "the labels of all 264 images take about")  # fmt: skip
    yield _ends(
        "--keep that empties classes",
        lambda world: _select(world, world.material.target, "--keep", "0.4%"),
        "no image is chosen of 1 of 2 classes",
    )
    yield _ends(
        "a thin choice",
        lambda world: _select(world, world.material.target, "--keep", "2%"),
        "fewer than 5 images are chosen of",
    )
    yield _ends(
        "a budget too small", lambda world: _select(world, world.material.target, "--budget", "10"), "Give --budget", 2
    )
    yield _ends(
        "a budget that is no size",
        lambda world: _select(world, world.material.target, "--budget", "many"),
        "size 'many': expected a number with",
        2,
    )
    yield _ends(
        "--keep of more than all", lambda world: _select(world, world.material.target, "--keep", "130%"), "keep", 2
    )
    yield _ends(
        "an unknown rule",
        lambda world: _select(world, world.material.target, "--rule", "nearst"),
        "did you mean 'nearest'",
        2,
    )
    yield _ends("an unknown target", lambda world: _select(world, "digit"), "did you mean 'digits'", 2)
    yield _ends("unreadable images of a target are named", lambda world: _select(world, _unreadable(world.place)),
                "1 images of the target could not be read and were left out: dim/9")  # fmt: skip


def _one_class(place: Path) -> Path:
    return classes(place / "t" / "train", {"bright": 5}).parent


def _same_test(place: Path) -> Path:
    for part in ("train", "test"):
        classes(place / "t" / part, {"bright": 5, "dim": 5})
    return place / "t"


def _unreadable(place: Path) -> Path:
    written(classes(place / "t" / "train", {"bright": 5, "dim": 5}) / "dim" / "9.png", b"nothing")
    return place / "t"


CASES: tuple[Case, ...] = (*_usage(), *_students(), *_models(), *_searches(), *_places(), *_choices())
