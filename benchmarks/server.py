"""A dataset server: bytes on the wire, many clients at once, links that break, catalogues that lie, and a broadcast.

    python benchmarks/server.py [--bytes 1000] [--clients 1000] [--links 100] [--out docs/benchmarks.md] [--json]

The server is the standard library's, on this machine; clients are threads of this process, each with a home of its own. Bytes are
counted by a proxy between them: requests, answers and all headers, without those of TCP and IP. With `--json` the last line holds
first_pull_bytes, update_bytes, clients_per_s, resumed, rollbacks_refused.
"""

import argparse
import random
import resource
import shutil
import statistics
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import plada
from benchmarks.document import conclude, machine
from benchmarks.faulty_links import faulty_server
from benchmarks.server_material import CountingProxy, Owner, Served, static_server, task_of, updated, workshop
from plada.common import transfer
from plada.errors import PayloadTruncated, PladaError
from plada.payload.catalogue.carousel import read_carousel, write_carousel
from plada.payload.payload import Payload

TRIALS = 100  # receptions of a carousel
VERSIONS = 8  # that are published while others pull
PULLS = 60  # of them
LOSS = 0.1  # of its frames
# (fault, whether a client must get through it); the others are to be refused by name. None: either, since a signed file that came
# damaged, or cut by a server that does not say its length, is refused at once.
LINKS = (
    ("stall-once", True), ("reset-once", True), ("cut-once", True), ("cut", True), ("corrupt-once", None), ("whole-cut-once", True),
    ("redirect", True), ("silent-once", True), ("busy-once", True), ("unsized-cut-once", None),
    ("stall", False), ("reset", False), ("whole-cut", False), ("corrupt", False), ("silent", False), ("loop", False),
    ("missing", False), ("busy", False), ("longer", False), ("shorter", False),
)  # fmt: skip


def wire_bytes(size: int) -> dict[str, int]:
    """Bytes on the wire of a first pull, of an update of 2 %, and of a look that brings nothing new."""
    with workshop() as root:
        owner, first = Owner(root), task_of(size)
        owner.publish(first)
        with static_server(owner.folder) as server:
            proxy = CountingProxy(server.port)
            pull(f"{proxy.url}/menu", root / "home", first)
            found = {"payload": len(first.encode()), "first": proxy.take()}
            second = updated(first, 0.02)
            owner.publish(second)
            pull(f"{proxy.url}/menu", root / "home", second)
            found["update"] = proxy.take()
            pull(f"{proxy.url}/menu", root / "home", second)
            found["nothing"] = proxy.take()
            proxy.close()
    return found


def pull(where: str, home: Path, *wanted: Payload) -> float:
    """Pull a task as a client with a home of its own; seconds. Raises AssertionError: it is none of the payloads that are wanted."""
    start = time.perf_counter()
    summary = plada.pull(where, home=home)
    seconds = time.perf_counter() - start
    digest = plada.read_payload(summary.tasks[0].file, home=home).digest(16)
    assert digest in [payload.digest(16) for payload in wanted], "another payload came"
    return seconds


def many_clients(size: int, count: int) -> dict[str, float]:
    """Clients that all begin at once: clients a second, the slowest one's seconds, peak memory."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with workshop() as root:
        owner, task = Owner(root), task_of(size)
        owner.publish(task)
        with static_server(owner.folder) as server:
            pull(f"{server.url}/menu", root / "warm", task)  # what is loaded once is loaded now
            alone = statistics.median(pull(f"{server.url}/menu", root / f"alone-{n}", task) for n in range(5))
            began = threading.Barrier(count + 1)
            waits: list[float] = []
            files: list[str] = []
            faults: Counter[str] = Counter()

            def client(number: int) -> None:
                began.wait()
                try:
                    pulled = plada.pull(f"{server.url}/menu", home=root / f"home-{number}").tasks[0]
                    waits.append(time.perf_counter() - start)
                    files.append(pulled.file)
                except PladaError as err:
                    faults[str(err)] += 1

            bare = answers_per_second(server, "tasks/menu")
            threading.stack_size(1 << 20)
            threads = [threading.Thread(target=client, args=(number,)) for number in range(count)]
            for thread in threads:
                thread.start()
            start = time.perf_counter()
            began.wait()
            for thread in threads:
                thread.join()
            seconds = time.perf_counter() - start
            threading.stack_size(0)
            assert not faults, faults.most_common(3)
            wanted = Path(files[0]).read_bytes()
            right = sum(Path(file).read_bytes() == wanted for file in files) * _is(task, Path(files[0]).parents[2])
            return {
                "right": right, "rate": count / seconds, "slowest": max(waits), "half": statistics.median(waits), "alone": alone, "bare": bare, "all": seconds,
                "server_memory": server.peak_memory(), "memory": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            }  # fmt: skip


def answers_per_second(server: Served, name: str, count: int = 400) -> float:
    """What the server gives without clients that have anything to do."""

    def get(_: int) -> None:
        with urlopen(f"{server.url}/{name}") as answer:
            answer.read()

    start = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(get, range(count)))
    return count / (time.perf_counter() - start)


def _is(task: Payload, home: Path) -> bool:
    return plada.read_payload("menu", home=home).digest(16) == task.digest(16)


def broken_links(size: int, count: int) -> dict[str, int]:
    """Pulls over links that break: resumed, refused by name, or neither."""
    limits = {"_TIMEOUT": 0.5, "_ANSWER": 2.0, "_PAUSE": 0.002}  # seconds each, in place of minutes
    before = {name: getattr(transfer, name) for name in limits}
    found: Counter[str] = Counter({"resumed": 0, "refused": 0, "wrong": 0})
    with workshop() as root:
        owner, task = Owner(root), task_of(size)
        owner.publish(task)
        try:
            for name, value in limits.items():
                setattr(transfer, name, value)
            with faulty_server(owner.files(), tagged=True) as server, ThreadPoolExecutor(8) as pool:

                def one(number: int) -> str:
                    fault, passable = LINKS[number % len(LINKS)]
                    byte = 10 * (number // len(LINKS)) + 10
                    try:
                        pull(server.url("menu", fault, byte), root / f"home-{number}", task)
                        return "resumed" if passable else "wrong"
                    except PladaError as err:
                        return (
                            "refused" if not passable and "\n" not in str(err) and "127.0.0.1" in str(err) else "wrong"
                        )

                found.update(pool.map(one, range(count)))
        finally:
            for name, value in before.items():
                setattr(transfer, name, value)
    return dict(found)


def changing_catalogue(size: int) -> dict[str, int]:
    """Pulls while somebody publishes: whatever came is one of the versions, and its number fits."""
    with workshop() as root:
        owner = Owner(root)
        versions = [task_of(size)]
        for seed in range(VERSIONS):
            versions.append(updated(versions[-1], 0.02, seed))
        owner.publish(versions[0])
        digests = [payload.digest(16).hex() for payload in versions]
        over = threading.Event()

        def publish() -> None:
            for payload in versions[1:]:
                owner.publish(payload)
                time.sleep(0.02)
            over.set()

        found: Counter[str] = Counter({"old or new": 0, "mixed": 0, "refused": 0, "while publishing": 0})
        with static_server(owner.folder) as server, ThreadPoolExecutor(4) as pool:
            thread = threading.Thread(target=publish)
            thread.start()

            def one(number: int) -> str:
                home, busy = root / f"home-{number % 8}-{2 * number // PULLS}", not over.is_set()
                try:
                    task = plada.pull(f"{server.url}/menu", home=home).tasks[0]
                except PladaError:
                    return "refused"
                found["while publishing"] += busy
                kept = plada.read_payload(task.file, home=home).digest(16).hex()
                return "old or new" if kept in digests[task.version - 1 :] else "mixed"

            found.update(pool.map(one, range(PULLS)))
            thread.join()
    return dict(found)


def lies(size: int) -> dict[str, bool]:
    """Catalogues that a client must not believe, by name; whether each was refused, and what was here is still here."""
    with workshop() as root:
        owner, stranger = Owner(root), Owner(root, "others")
        first = task_of(size)
        second = updated(first, 0.02)
        owner.publish(first)
        old = owner.files()
        owner.publish(second, task="menu")
        new = owner.files()
        stranger.publish(updated(first, 0.5), name="others")
        foreign = stranger.files()
        (root / "namesakes").mkdir()
        namesake = Owner(root / "namesakes", owner.name)
        namesake.publish(updated(first, 0.5))
        fake = namesake.files()
        payload = max((name for name in new if name.startswith("files/")), key=lambda name: len(new[name]))
        task = {"tasks/menu": old["tasks/menu"]}
        cases: dict[str, Mapping[str, bytes]] = {
            "rollback of everything": old,
            "rollback of one task": new | task,
            "an old task and its files, the rest new": new
            | task
            | {n: d for n, d in old.items() if n.startswith("files/")},
            "another catalogue's task file": new | {"tasks/menu": foreign["tasks/menu"]},
            "another catalogue altogether": foreign,
            "a catalogue of the same name by another key": fake,
            "a changed signature": new | {"tasks/menu": _flipped(new["tasks/menu"], 50)},
            "a changed text": new | {"tasks/menu": _flipped(new["tasks/menu"], -3)},
        }
        results = {}
        for name, files in cases.items():
            results[name] = _refused(root, owner, new, files, second)
        fresh = {n: _flipped(d, len(d) // 2) if n == payload else d for n, d in new.items()}
        results["a changed payload"] = _refused(root, owner, new, fresh, second, known=False)
        results["another payload under the name"] = _refused(
            root, owner, new, {**new, payload: updated(second, 0.1).encode()}, second, known=False
        )
        results["freeze: an expired catalogue"] = _frozen(root, owner, second)
        results["a key that was rotated away"] = _rotated(root, second)
    return results


def _flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def _lay(folder: Path, files: Mapping[str, bytes]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def _refused(
    root: Path,
    owner: Owner,
    right: Mapping[str, bytes],
    wrong: Mapping[str, bytes],
    kept: Payload,
    *,
    known: bool = True,
) -> bool:
    """Whether a client refuses `wrong`. `known`: it has read the right catalogue before, and keeps the payload of then."""
    home, place = root / "client", root / "place"
    shutil.rmtree(home, ignore_errors=True)
    if known:
        _lay(place, right)
        plada.pull(f"{place}/menu", home=home)
    _lay(place, wrong)
    try:
        plada.pull(f"{place}/menu", home=home)
    except PladaError:
        return not known or _is(kept, home)
    return False


def _frozen(root: Path, owner: Owner, payload: Payload) -> bool:
    """A catalogue that nobody signs anew, looked at two months later."""
    place, home = root / "frozen", root / "frozen-client"
    owner.publish(payload, expires="30d")
    _lay(place, owner.files())
    plada.pull(f"{place}/menu", home=home)
    now = time.time
    time.time = lambda: now() + 60 * 86_400
    try:
        plada.pull(f"{place}/menu", home=home)
    except PladaError as err:
        return "expired" in str(err)
    finally:
        time.time = now
    return False


def _rotated(root: Path, payload: Payload) -> bool:
    """Whoever found the old key signs with it after the client has seen its successor."""
    (root / "rotating").mkdir()
    owner = Owner(root / "rotating")
    owner.publish(payload)
    old, thief = owner.files(), Owner(root / "rotating", "thief")
    home, place = root / "rotating-client", root / "rotating-place"
    _lay(place, old)
    plada.pull(f"{place}/menu", home=home)
    new = plada.keygen(root / "rotating" / "new").private
    owner.publish(updated(payload, 0.02), rotate_to=new)
    _lay(place, owner.files())
    plada.pull(f"{place}/menu", home=home)  # the successor is believed
    _lay(thief.folder, old)
    thief.key, thief.name = owner.key, owner.name
    for _ in range(3):  # serial numbers above those that the client has seen
        payload = updated(payload, 0.5)
        thief.publish(payload)
    _lay(place, thief.files())
    with suppress(PladaError):
        plada.pull(f"{place}/menu", home=home)
        return False
    return True


def receptions(size: int) -> dict[str, float]:
    """Frames that a receiver needs of a catalogue of `size` bytes who begins anywhere and loses a tenth: shares of what it needs."""
    files = {"catalogue": random.Random(size).randbytes(size)}
    carousel = write_carousel(files)
    data, width, needed = carousel.data, carousel.frame_bytes, carousel.needed
    frames = [data[at : at + width] for at in range(0, len(data), width)]
    received, sent = [], []
    with workshop() as root:
        for seed in range(TRIALS):
            draw = random.Random(seed)
            start = draw.randrange(len(frames))
            lost = set(draw.sample(range(len(frames)), round(LOSS * len(frames))))
            turned = enumerate(frames[start:] + frames[:start])
            heard = [(place, frame) for place, frame in turned if place not in lost]
            for count in range(needed, len(heard) + 1):
                (root / "heard").write_bytes(b"".join(frame for _, frame in heard[:count]))
                with suppress(PayloadTruncated):
                    assert read_carousel(root / "heard") == files
                    received.append(count / needed)
                    sent.append((heard[count - 1][0] + 1) / needed)
                    break
    return {
        "needed": needed, "recovered": len(received), "received": max(received), "sent": statistics.mean(sent), "most_sent": max(sent),
    }  # fmt: skip


def report(options: argparse.Namespace) -> tuple[list[str], dict[str, Any]]:
    """Lines of the document, and the figures."""
    lines = ["## Server", "", f"`python benchmarks/server.py`; {machine()}.", ""]
    wire = wire_bytes(options.bytes)
    first, update = wire["first"], wire["update"]
    lines += [
        f"Bytes on the wire of a signed task of {wire['payload']} bytes, over plain HTTP, headers of both sides counted:", "",
        "| | bytes | |", "| --- | --- | --- |",
        f"| first pull | {first} | {first - wire['payload']} more than the payload |",
        f"| update of 2 % of the images | {update} | {update / first:.0%} of a first pull |",
        f"| nothing new | {wire['nothing']} | {wire['nothing'] / first:.0%} |", "",
    ]  # fmt: skip
    crowd = many_clients(options.bytes, options.clients)
    lines += [
        f"{options.clients} clients that begin at once, in one process, from a server of the standard library on the same cores: "
        f"{crowd['right']:.0f} right in {crowd['all']:.1f} s, {crowd['rate']:.0f} a second. Half of them have it after {crowd['half']:.1f} s, the last "
        f"one after {crowd['slowest']:.1f} s; one alone takes {1e3 * crowd['alone']:.0f} ms. The bare server gives {crowd['bare']:.0f} answers a second, "
        f"so that their {2 * options.clients} requests take it {2 * options.clients / crowd['bare']:.1f} s; the rest is the clients' own work: decoding, "
        f"and files that survive a power cut. Peak memory: server {crowd['server_memory'] / 1e6:.0f} MB, all clients {crowd['memory'] / 1e6:.0f} MB.",
        "",
    ]
    links = broken_links(options.bytes, options.links)
    lines += [
        f"{options.links} links that stall, reset, cut (at byte 10, 20, ..., or at every tenth byte), corrupt a byte, answer 200 to ranges, redirect, "
        f"do not answer, or serve another file: {links['resumed']} resumed, {links['refused']} refused by name, {links['wrong']} otherwise.",
        "",
    ]
    change = changing_catalogue(options.bytes)
    lines += [
        f"{sum(change.values()) - change['while publishing']} pulls while {VERSIONS} versions are published, {change['while publishing']} of them before the "
        f"last one was: {change['old or new']} old or new, {change['mixed']} mixed, {change['refused']} refused.",
        "",
    ]
    refused = lies(options.bytes)
    lines += ["| a catalogue that lies | |", "| --- | --- |"]
    lines += [f"| {name} | {'refused' if right else 'BELIEVED'} |" for name, right in refused.items()]
    small, large = receptions(2 * options.bytes), receptions(200_000)
    lines += [
        "",
        f"A carousel in frames of 256 bytes; {LOSS:.0%} of them are lost, reception begins anywhere, {TRIALS} times:",
        "",
    ]
    lines += [
        "| frames needed | recovered | most received / needed | sent / needed, mean | most |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {each['needed']:.0f} | {each['recovered']:.0f} | {each['received']:.3f} | {each['sent']:.3f} | {each['most_sent']:.3f} |"
        for each in (small, large)
    ]
    figures = {
        "first_pull_bytes": first, "update_bytes": update, "clients_per_s": round(crowd["rate"], 1),
        "resumed": links["resumed"] + links["refused"], "rollbacks_refused": sum(refused.values()),
        "payload_bytes": wire["payload"], "nothing_new_bytes": wire["nothing"], "clients_right": crowd["right"],
        "slowest_s": round(crowd["slowest"], 2), "answers_per_s": round(crowd["bare"]), "links_wrong": links["wrong"], "mixed": change["mixed"], "lies": len(refused),
        "carousel_received": round(max(small["received"], large["received"]), 3), "carousel_sent": round(large["sent"], 3),
    }  # fmt: skip
    return lines, figures


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bytes", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--links", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    lines, figures = report(options)
    conclude(options.out, "server", lines, figures, as_json=options.json)


if __name__ == "__main__":
    main()
