"""Decode a payload file: an independent reader, written from docs/payload-format.md and docs/payload-coders.md alone.

    python plada_decode.py FILE [--keys KEYS.txt] [--pack PACK] [--old OLD] [--partial] [--public-key HEX] [--min-serial N]

prints CSV: position,label,class. It shares no line with plada and is meant to be read next to the two documents, or
carried into another language: whole numbers, lists, one function for each paragraph of theirs. It is slow.

Standard library only, but for what a file needs: `compression.zstd` (Python 3.14) or the package zstandard for coders 1
and 2; `blake3` to compare the key id with keys; `cryptography` to verify a signature.

KEYS is a text file, one key a line, or (NAME.json) a list of the bounds of blocks. OLD is what a file of changes applies to.
"""

import argparse
import csv
import hashlib
import itertools
import json
import struct
import sys
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from math import gcd, isqrt
from operator import mul
from pathlib import Path
from typing import Any

MAX_IMAGES, MAX_NAMED, MAX_FILE, MAX_TEXT, MAX_NAME = 2**28, 2**24, 2**30, 2**24, 1024
Pairs = list[tuple[int, int]]  # (position, label), rising


class Refused(Exception):
    """A file that must not be used. `kind`: truncated, unsupported (newer), corrupt, reference, missing or signature."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(f"{kind}: {what}")
        self.kind = kind


def need(holds: bool, what: str, kind: str = "corrupt") -> None:
    if not holds:
        raise Refused(kind, what)


class Cursor:
    """Bytes taken from the front. `short` is the kind of refusal when there are too few."""

    def __init__(self, data: bytes, at: int = 0, short: str = "corrupt") -> None:
        self.data, self.at, self.short = data, at, short

    def take(self, n: int) -> bytes:
        need(
            n <= len(self.data) - self.at,
            f"{n} bytes at offset {self.at}, {len(self.data) - self.at} are there",
            self.short,
        )
        self.at += n
        return self.data[self.at - n : self.at]

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at)

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def varint(self, low: int = 0, high: int = 2**35 - 1, what: str = "a number") -> int:
        value = 0
        for shift in range(0, 35, 7):
            byte = self.number(1)
            value |= (byte & 127) << shift
            if byte < 128:
                need(byte > 0 or shift == 0, "a number with a last byte of 0")
                need(low <= value <= high, f"{what} is {value}, not {low} .. {high}")
                return value
        raise Refused("corrupt", "a number of more than 5 bytes")


def varint_bytes(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint_bytes(value >> 7)


# ---- payload-coders.md section 2: tables ----------------------------------------------------------------------------

TABLE_SHA256 = {
    "SQ": "50f294e8ba0730545cfdb3edfc84e51a3f42387fa9975622d5fce21528f58695",
    "ST": "a50a4b1ac5f82d8f39a1f94ea70c5f3b518fec2bdfe890e1e0134ea6f439eb76",
    "LN": "255e191660668c391787da5af1e55a8edbfeace3676750e03b446a59263b5fa1",
    "EXP": "980a794e476c23cbb621054edfb01b080ab66f83c83c5961eb3d67dd5c591646",
    "NB": "25e2392eaab109b9184e5aeabd9284d3c6565092040acfbebd20507fdac76e44",
}


def clamp(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


@cache
def tables() -> dict[str, list[int]]:
    """The five tables by name, made in whole numbers and compared with their SHA-256."""
    one = 2**64
    term, g, n = one, one, 1
    while term:
        term //= 256 * n
        g += term
        n += 1
    x = [one]
    while len(x) < 5764:
        x.append((x[-1] * g) >> 64)
    sq = [min((x[s] << 16) // (x[s] + one), 65535) for s in range(2840)]
    ex = [x[s] >> 40 for s in range(2840)]
    upper = []  # ST from 32768 on; s rises with p
    s = 0
    for p in range(32768, 65536):
        while s < 2839 and x[s] * (65536 - p) < p * one:
            s += 1
        upper.append(s)
    st = [-2839, *(-upper[32768 - p] for p in range(1, 32768)), *upper]
    made = {
        "SQ": [65536 - sq[-s] for s in range(-2839, 0)] + sq,
        "ST": st,
        "LN": [bisect_left(x, (1024 + m) * one, key=lambda v: 1024 * v) for m in range(1024)],
        "EXP": [(one * one // x[-s]) >> 40 for s in range(-2839, 0)] + ex,
        "NB": [entry for q in range(65) for entry in negative_binomial(x[88 * q + 44] >> 14, st)],
    }
    for name, entries in made.items():
        found = hashlib.sha256(b"".join(entry.to_bytes(8, "little", signed=True) for entry in entries)).hexdigest()
        if found != TABLE_SHA256[name]:
            raise AssertionError(f"table {name} has SHA-256 {found}, not {TABLE_SHA256[name]}")
    return made


def negative_binomial(mu: int, st: list[int]) -> Iterator[int]:
    w = mu + 2**64
    a = isqrt(isqrt(2**192 // w * 2**128) * 2**128)
    tail, before, n = 2**128 - a, 2**128, 0
    for j in range(12):
        if before < 2**96:
            yield -2839
            continue
        yield st[clamp((tail << 16) // before, 1, 65535)]
        before = tail
        while n + 1 < 2 ** (j + 1):
            a = a * mu * (4 * n + 1) // (4 * w * (n + 1))
            tail -= a
            n += 1


def squash(s: int) -> int:
    return tables()["SQ"][clamp(s, -2839, 2839) + 2839]


def exp(s: int) -> int:
    return tables()["EXP"][clamp(s, -2839, 2839) + 2839]


def ln(v: int) -> int:
    b = v.bit_length() - 1
    top = v >> (b - 10) if b >= 10 else v << (10 - b)
    return tables()["LN"][top - 1024] + ((b * 45426) >> 8)


# ---- payload-coders.md section 3: arithmetic coder, slots -------------------------------------------------------------


class Slot:
    """An adaptive probability."""

    def __init__(self, p: int, n: int, limit: int) -> None:
        self.v, self.n, self.limit = p << 6, n, limit

    def p(self) -> int:
        return clamp(self.v >> 6, 1, 65535)

    def learn(self, bit: int) -> None:
        self.v += (((bit << 22) - self.v) * (131072 // (2 * self.n + 3))) >> 16
        self.n += self.n < self.limit


class Arithmetic:
    """Bits of given probability from the coded bytes; zeros past their end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.taken = data, 4
        self.low, self.high = 0, 2**32 - 1
        self.window = int.from_bytes((data + bytes(4))[:4], "big")

    def bit(self, p: int) -> int:
        r = self.high - self.low
        mid = self.low + (r >> 16) * p + (((r & 65535) * p) >> 16)
        bit = int(self.window <= mid)
        if bit:
            self.high = mid
        else:
            self.low = mid + 1
        while self.low >> 24 == self.high >> 24:
            following = self.data[self.taken] if self.taken < len(self.data) else 0
            self.taken += 1
            self.window = (self.window << 8) % 2**32 + following
            self.low = (self.low << 8) % 2**32
            self.high = (self.high << 8) % 2**32 + 255
        return bit

    def slot(self, slot: Slot) -> int:
        bit = self.bit(slot.p())
        slot.learn(bit)
        return bit

    def end(self) -> None:
        need(self.taken >= len(self.data), f"{len(self.data)} coded bytes, {self.taken} are used")


# ---- payload-coders.md section 4: coders 3 and 5 ----------------------------------------------------------------------


class Numbers:
    """Whole numbers with one set of slots."""

    def __init__(self, coder: Arithmetic) -> None:
        self.coder, self.slots = coder, dict[int, Slot]()

    def read(self, most: int, mean: tuple[int, int]) -> int:
        v = (mean[0] << 16) // mean[1]
        q = min(ln(v) // 88, 64) if v else 0
        ones = 0
        while ones < most.bit_length():
            entry = 12 * q + min(ones, 11)
            if entry not in self.slots:
                self.slots[entry] = Slot(squash(tables()["NB"][entry]), 4, 250)
            if not self.coder.slot(self.slots[entry]):
                break
            ones += 1
        n = min(ones, 1)
        for d in range(ones - 2, -1, -1):
            n = 2 * n + (self.coder.bit(32768) if (2 * n + 1) << d <= most else 0)
        return n


def read_class_counts(coder: Arithmetic, k: int, classes: int) -> list[int]:
    if classes == 1:
        return [k]
    numbers = Numbers(coder)
    ones = 0
    while coder.bit(32768):
        ones += 1
        need(ones <= 31, "a class count of more than 32 bits")
    x = 1
    for _ in range(ones):
        x = 2 * x + coder.bit(32768)
    largest = x - 1 + -(-k // classes)
    as_largest = [Slot(32768, 1, 250) for _ in range(3)]
    one_less = [Slot(32768, 1, 250) for _ in range(3)]
    left, before, counts = k, 0, []
    for c in range(classes - 1):
        if largest <= left and coder.slot(as_largest[before]):
            n, before = largest, 0
        elif 1 <= largest <= left + 1 and coder.slot(one_less[before]):
            n, before = largest - 1, 1
        else:
            n, before = numbers.read(min(max(largest - 2, 0), left), (left, classes - c)), 2
        left -= n
        counts.append(n)
    return [*counts, left]


class Tree:
    """Nodes 1 .. 2 w - 1, each the sum of the leaves below it."""

    def __init__(self, w: int, leaves: Sequence[int] = ()) -> None:
        self.at = [0] * w + list(leaves) + [0] * (w - len(leaves))
        for v in range(w - 1, 0, -1):
            self.at[v] = self.at[2 * v] + self.at[2 * v + 1]

    def add(self, leaf: int, amount: int) -> None:
        while leaf and amount:
            self.at[leaf] += amount
            leaf >>= 1


def tree_width(classes: int) -> int:
    return 1 << (classes - 1).bit_length()


class Labels:
    """Labels of coders 3 and 5: remaining counts, other blocks and this block, mixed."""

    def __init__(self, coder: Arithmetic, counts: list[int]) -> None:
        self.coder, self.w = coder, tree_width(len(counts))
        self.O = Tree(self.w, [int(n > 0) for n in counts])
        self.R, self.T, self.H = Tree(self.w, counts), Tree(self.w), Tree(self.w)
        self.weights = [20972, 41943, 41943, 157286, 262144, 314573, 209715]
        self.faded = set[int]()  # leaves whose T is above 0

    def read(self) -> int:
        coder, wt = self.coder, self.weights
        o, r, t, h = self.O.at, self.R.at, self.T.at, self.H.at
        m = [16 * 4**e for e in range(4)]
        d = [256 * h[1] + m[e] for e in range(4)]
        u = 2**40 // r[1]
        mm = wt[2] + sum(wt[3 + e] * m[e] // d[e] for e in range(4))
        ll = sum(256 * wt[3 + e] // d[e] for e in range(4))
        fo = (wt[0] << 12) // o[1]
        fr = ((wt[1] + (mm << 10) // (t[1] + 1024)) * u) >> 28
        ft = (mm << 12) // (t[1] + 1024)
        fh = ll << 12
        v = 1
        while v < self.w:
            left, right = 2 * v, 2 * v + 1
            if o[right] == 0:
                v = left
            elif o[left] == 0:
                v = right
            else:
                fl = fo * o[left] + fr * r[left] + ft * t[left] + fh * h[left]
                fg = fo * o[right] + fr * r[right] + ft * t[right] + fh * h[right]
                v = right if coder.bit(clamp((fg << 16) // (fl + fg), 1, 65535)) else left
        q = (u * r[v]) >> 10
        g = ((t[v] << 30) + 1024 * q) // (t[1] + 1024)
        p = [2**30 // o[1], q, g, *(((h[v] << 38) + m[e] * g) // d[e] for e in range(4))]
        self.weights = reweigh(wt, p, 1024)
        self.R.add(v, -1)
        self.H.add(v, 1)
        if r[v] == 0:
            for tree in (self.O, self.T, self.H):
                tree.add(v, -tree.at[v])
        return v - self.w

    def end_block(self, labels: list[int]) -> None:
        if not labels:
            return
        for leaf in self.faded:
            self.T.add(leaf, -((self.T.at[leaf] + 15) >> 4))
        for leaf in [self.w + label for label in labels]:
            if self.R.at[leaf] > 0:
                self.T.add(leaf, 256)
                self.faded.add(leaf)
            self.H.add(leaf, -self.H.at[leaf])
        self.faded = {leaf for leaf in self.faded if self.T.at[leaf]}


def reweigh(weights: list[int], p: list[int], floor: int) -> list[int]:
    s = (sum(map(mul, weights, p)) >> 20) + 1
    weights = [w * pi // s for w, pi in zip(weights, p, strict=True)]
    weights = [w - (w >> 7) + floor for w in weights]
    total = sum(weights)
    return [(w << 20) // total for w in weights]


def read_blocks(data: bytes, k: int, ref: "Reference", bounds: Sequence[int]) -> Pairs:
    coder = Arithmetic(data)
    labels = Labels(coder, read_class_counts(coder, k, ref.classes))
    numbers = Numbers(coder)
    kk = ww = 0
    left = k
    pairs: Pairs = []
    for first, end in itertools.pairwise(bounds):
        if left == 0:
            break
        m, r = end - first, ref.images - first
        n = min(left, m)
        if left != r and m != r:
            n = numbers.read(n, (m * (kk + 1024), ww + 1024 * r // left))
        kk += 256 * n - (kk >> 3)
        ww += 256 * m - (ww >> 3)
        left -= n
        kept, image = list[int](), first
        while len(kept) < n:
            u, g = n - len(kept), end - image
            if u == g or coder.bit(clamp(((u << 17) + g) // (2 * g), 1, 65535)):
                kept.append(image)
            image += 1
        named = [labels.read() for _ in kept] if ref.classes > 1 else [0] * n
        labels.end_block(named)
        pairs += zip(kept, named, strict=True)
    need(left == 0, f"{left} images are left after the last block")
    coder.end()
    return pairs


# ---- payload-coders.md section 5: coders 4 and 6 ----------------------------------------------------------------------


def step(n: int) -> int:
    s = max((n * 0x9E3779B9) >> 32, 1)
    while gcd(s, n) != 1:
        s += 1
    return s


class PackModel:
    """Classes' weights over the features, learned while decoding."""

    def __init__(self, k: int, ref: "Reference") -> None:
        self.d, self.row, self.classes = ref.dimensions, ref.row, range(ref.classes)
        last = (ln(k) - ln(ref.classes) - ln(max(ref.images - k, 1))) << 8
        self.weights = [[0] * self.d + [last] for _ in self.classes]
        self.g = [0] * ref.classes

    def scores(self, z: list[int]) -> list[int]:
        return [clamp(sum(map(mul, w, z)) >> 13, -2800, 2800) for w in self.weights]

    def features(self, image: int) -> list[int]:
        return [*self.row(image), 32]

    def learn(self, t: int, order: list[int], kept: dict[int, int]) -> None:
        """`order`: the t images visited; `kept`: the class of those kept, in the order of visits."""
        j = max(-(-len(kept) // 16384), 1)
        sample = [(image, label, j) for image, label in list(kept.items())[::j]]
        j = -(-t // 16384)
        sample += [(image, -1, j) for image in order[::j] if image not in kept]
        s = step(len(sample))
        sample = [sample[i * s % len(sample)] for i in range(len(sample))]
        for _ in range(4):
            for start in range(0, len(sample), 128):
                self.learn_batch(sample[start : start + 128])

    def learn_batch(self, batch: list[tuple[int, int, int]]) -> None:
        grad = [[0] * (self.d + 1) for _ in self.classes]
        for image, label, count in batch:
            z = self.features(image)
            e = [exp(s) for s in self.scores(z)]
            total = sum(e) + 2**24
            for c in self.classes:
                err = (65536 * (c == label) - (e[c] << 16) // total) * count
                grad[c] = [a + err * zi for a, zi in zip(grad[c], z, strict=True)]
        for c in self.classes:
            rate = 2867200 // (isqrt(self.g[c]) + 16384)
            square = sum(clamp(a >> 10, -(2**24), 2**24) ** 2 for a in grad[c])
            self.g[c] = min(self.g[c] + square // (self.d + 1), 2**60)
            self.weights[c] = [
                clamp(w + ((a * rate) >> 16), -(2**31), 2**31) for w, a in zip(self.weights[c], grad[c], strict=True)
            ]


def read_pack_label(coder: Arithmetic, scores: list[int], seen: dict[int, int], u: list[int]) -> tuple[int, list[int]]:
    """The label of a kept image, and the weights u after it. `seen`: how many of its block have which label."""
    w, classes, most = tree_width(len(scores)), range(len(scores)), max(scores)
    e, a = [exp(s) for s in scores], [exp(s >> 1) for s in scores]
    b = [exp(max(2 * (s - most), -2839)) for s in scores]
    m = [2 * seen.get(c, 0) + 1 for c in classes]
    p = [[v // ((sum(vs) >> 20) + 1) for v in vs] for vs in (e, list(map(mul, e, m)), a, list(map(mul, b, m)))]
    f = Tree(w, [sum(u[i] * p[i][c] for i in range(4)) + 1024 for c in classes]).at
    v = 1
    while v < w:
        v *= 2
        left, right = f[v] >> 10, f[v + 1] >> 10
        if f[v + 1] and coder.bit(clamp((right << 16) // (left + right), 1, 65535)):
            v += 1
    return v - w, reweigh(u, [p[i][v - w] for i in range(4)], 2048)


def read_with_pack(data: bytes, k: int, ref: "Reference", bounds: Sequence[int]) -> Pairs:
    n, classes = ref.images, ref.classes
    need(classes <= 1024, "more than 1024 classes with a pack")
    need((len(bounds) - 1) * classes <= 2**26, "too many blocks and classes with a pack")
    need(n * classes * (ref.dimensions + 1) <= 2**38, "too many images, classes and features with a pack")
    coder, model, s = Arithmetic(data), PackModel(k, ref), step(n)
    first, second = ([Slot(squash(48 * i + 24 - 2880), 8, 1000) for i in range(120)] for _ in range(2))
    kept_of, expected, seen = dict[int, int](), dict[int, int](), dict[int, dict[int, int]]()
    weights, u = [21000] * 3, [262144] * 4
    kept, order = dict[int, int](), list[int]()
    at = max(n // 512, 1)  # visits before the next learning
    while len(kept) < k:
        t = len(order)
        need(t < n, f"{len(kept)} of {k} images in the whole reference")
        if t == at:
            model.learn(t, order, kept)
            at = max(5 * at // 4, at + 1)
        image = t * s % n
        block = bisect_right(bounds, image) - 1
        scores = model.scores(model.features(image))
        logit = ln(sum(map(exp, scores))) - 4258
        x0 = logit + ln((kept_of.get(block, 0) + 4) << 16) - ln(expected.get(block, 0) + 262144)
        slots = [bank[clamp(x + 2880, 0, 5759) // 48] for bank, x in ((first, x0), (second, logit))]
        x = [x0, *(tables()["ST"][slot.p()] for slot in slots)]
        p = squash((32768 + sum(map(mul, weights, x))) >> 16)
        bit = coder.bit(p)
        error = (bit << 16) - p
        if abs(error) > 300:
            weights = [w + ((xi * error * 2 + 2**17) >> 18) for w, xi in zip(weights, x, strict=True)]
        for slot in slots:
            slot.learn(bit)
        expected[block] = expected.get(block, 0) + squash(logit)
        if bit:
            kept_of[block] = kept_of.get(block, 0) + 1
            of_block = seen.setdefault(block, {})
            label, u = read_pack_label(coder, scores, of_block, u)
            of_block[label] = of_block.get(label, 0) + 1
            kept[image] = label
        order.append(image)
    coder.end()
    return sorted(kept.items())


# ---- coders 1 and 2: payload-format.md A.2 ----------------------------------------------------------------------------


def unzstd(body: bytes, limit: int) -> bytes:
    """One Zstandard frame without its magic, of at most `limit` bytes."""
    need(len(body) >= 2 and body[0] == 0, "a Zstandard frame with more than a window in its header")
    exponent, mantissa = body[1] >> 3, body[1] & 7
    need((8 + mantissa) << (7 + exponent) <= 2**27, "a Zstandard window of more than 2^27 bytes")
    frame = b"\x28\xb5\x2f\xfd" + body
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14

        decompressor = zstd.ZstdDecompressor()
        plain = bytes(decompressor.decompress(frame, max_length=limit + 1))
        ended = decompressor.eof and not decompressor.unused_data
    except ImportError:
        import zstandard

        cursor, last = Cursor(body, 2), 0  # the frame's blocks, to see where it ends
        while not last:
            header = cursor.number(3)
            last, raw_size = header & 1, header >> 3
            cursor.take(1 if header >> 1 & 3 == 1 else raw_size)
        ended = cursor.at == len(body)
        try:
            with zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(frame) as reader:
                plain = reader.read(limit + 1)
        except zstandard.ZstdError as error:
            raise Refused("corrupt", f"a Zstandard frame: {error}") from error
    except Exception as error:
        raise Refused("corrupt", f"a Zstandard frame: {error}") from error
    need(len(plain) <= limit, f"a Zstandard frame of more than {limit} bytes")
    need(ended, "a Zstandard frame that does not end with its field")
    return plain


def read_zstd(coder: int, k: int, cursor: Cursor, ref: "Reference") -> Pairs:
    if k == 0:
        need(cursor.rest() in (b"", b"\0"), "bytes behind an empty content")
        return []
    field = unzstd(cursor.take(cursor.varint()), max(4 * k, ref.images // 8 + 1))
    if coder == 1:
        width = len(field) // k
        need(width in (1, 2, 4) and len(field) == k * width, "gaps of another width than 1, 2 or 4 bytes")
        positions, last = list[int](), -1
        for at in range(0, len(field), width):
            last += 1 + int.from_bytes(field[at : at + width], "little")
            positions.append(last)
    else:
        need(len(field) == -(-ref.images // 8), "a bitmap of another length")
        positions = [8 * i + j for i, byte in enumerate(field) if byte for j in range(8) if byte << j & 128]
        need(len(positions) == k, f"a bitmap of {len(positions)} images, not {k}")
    need(positions[-1] < ref.images, f"position {positions[-1]} of {ref.images} images")
    body = cursor.rest()
    if not body and ref.classes == 1:
        return [(position, 0) for position in positions]
    size = 1 if ref.classes <= 256 else 2
    labels = unzstd(body, k * size)
    need(len(labels) == k * size, "labels of another number")
    numbers = [int.from_bytes(labels[at : at + size], "little") for at in range(0, k * size, size)]
    return list(zip(positions, numbers, strict=True))


# ---- payload-format.md section 5: a content ---------------------------------------------------------------------------


def no_features(image: int) -> Sequence[int]:
    raise AssertionError(f"no features of image {image}")


@dataclass(frozen=True)
class Reference:
    """What a content is over: the whole reference or a virtual one. `bounds` are those of blocks; `row` gives features."""

    images: int
    classes: int
    bounds: Sequence[int] | None = None
    pack_named: bool = False
    dimensions: int = 0
    row: Callable[[int], Sequence[int]] = no_features

    def part(self, blocks: list[int]) -> tuple["Reference", Callable[[int], int]]:
        """The virtual reference of some blocks, and where its positions are in this one."""
        assert self.bounds is not None
        starts, inside = [self.bounds[b] for b in blocks], [0]
        for b in blocks:
            inside.append(inside[-1] + self.bounds[b + 1] - self.bounds[b])

        def outside(position: int) -> int:
            block = bisect_right(inside, position) - 1
            return starts[block] + position - inside[block]

        return replace(self, images=inside[-1], bounds=inside, row=lambda i: self.row(outside(i))), outside


def even_bounds(images: int) -> list[int]:
    return [*range(0, images, 256), images]


def cut(bounds: Sequence[int]) -> list[int]:
    """No block of more than 2048 images, none of no image."""
    return [i for a, b in itertools.pairwise(bounds) for i in range(a, b, 2048)] + [bounds[-1]]


def read_content(body: bytes, ref: Reference) -> Pairs:
    cursor = Cursor(body)
    coder = cursor.number(1)
    need(1 <= coder <= 6, f"coder {coder} is unknown", "unsupported")
    k = cursor.varint(0, min(ref.images, MAX_NAMED, 65536 + 256 * len(body)), "the number of images named")
    checksum = None
    if coder in (4, 6):
        need(ref.pack_named, f"coder {coder} in a file that names no pack")
        need(ref.dimensions > 0, "this content needs the pack that the header names (--pack)", "missing")
        need(len(body) - cursor.at >= 4, "no checksum of the content")
        checksum, cursor.data = int.from_bytes(body[-4:], "little"), body[:-4]
    bounds = ref.bounds if coder in (3, 4) else even_bounds(ref.images)
    if bounds is None:
        raise Refused("missing", "this content needs the blocks of the reference (--keys)")
    if coder <= 2:
        pairs = read_zstd(coder, k, cursor, ref)
    elif k == 0:
        need(not cursor.rest(), "bytes behind an empty content")
        pairs = []
    else:
        pairs = (read_blocks if coder in (3, 5) else read_with_pack)(cursor.rest(), k, ref, bounds)
    need(all(label < ref.classes for _, label in pairs), "a label that is no class")
    need(checksum in (None, zlib.crc32(pair_bytes(pairs))), "not the labels that were sent: the pack is damaged")
    return pairs


def pair_bytes(pairs: Pairs) -> bytes:
    return struct.pack(f"<{len(pairs)}I", *(p for p, _ in pairs)) + struct.pack(
        f"<{len(pairs)}H", *(c for _, c in pairs)
    )


# ---- payload-format.md section 4: names and notes ---------------------------------------------------------------------

DICTIONARY = (
    b'\0{"recipe":{"batch_size":64,"body_rate":0.03,"ema":0.99,"epochs":20,"image_size":224,"label_smoothing":0.1,'
    b'"learning_rate":0.001,"rotate":15.0,"scale":1.5,"shear":0.2,"stretch":0.2,"supersample":2,"translate":0.1,'
    b'"warmup":0.1,"weight_decay":0.05},"target":"","teacher_accuracy":0.8,"teacher_accuracy":0.9}\0{"target":"'
    b'\0{"recipe":{"mirror":true}}\0{"recipe":{"epochs":30,"mirror":false},"target":"\0{"recipe":{"image_size":64,'
    b'"mirror":false}}'
)


def decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise Refused("corrupt", f"text that is not UTF-8: {error}") from error


def read_about(body: bytes, number: int) -> tuple[list[str] | None, dict[str, Any] | None]:
    """Names (`number` of them) and notes; None where there are none."""
    need(len(body) > 0, "an empty section of names and notes")
    flags, text = body[0], body[1:]
    need(flags & 6 > 0 and flags < 8, f"flags {flags} of names and notes")
    if flags & 1:
        try:
            inflate = zlib.decompressobj(-15, zdict=DICTIONARY)
            text = inflate.decompress(text, MAX_TEXT + 1)
        except zlib.error as error:
            raise Refused("corrupt", f"names and notes: {error}") from error
        need(len(text) <= MAX_TEXT, "names and notes of more than 2^24 bytes")
        need(inflate.eof and not inflate.unused_data, "names and notes that do not end with their section")
    need(len(text) <= MAX_TEXT, "names and notes of more than 2^24 bytes")
    parts = decoded(text).split("\0")
    notes = canonical_notes(parts.pop()) if flags & 4 else None
    need(len(parts) == (number if flags & 2 else 0), f"{len(parts)} names of {number} classes")
    need(len(set(parts)) == len(parts), "two classes of one name")
    need(all(len(part) <= MAX_NAME for part in parts), f"a class name of more than {MAX_NAME} letters")
    return (parts if flags & 2 else None), notes


def notes_text(notes: Any) -> str:
    return json.dumps(notes, separators=(",", ":"), sort_keys=True, allow_nan=False)


def canonical_notes(text: str) -> dict[str, Any]:
    try:
        notes = json.loads(text)
        same = isinstance(notes, dict) and bool(notes) and notes_text(notes) == text
    except (ValueError, RecursionError) as error:
        raise Refused("corrupt", f"notes: {error}") from error
    need(same, "notes that are not one JSON object in the form of the format's section 4")
    assert isinstance(notes, dict)
    return notes


# ---- payload-format.md section 3: the container -----------------------------------------------------------------------


@dataclass(frozen=True)
class Header:
    length: int
    images: int
    classes: int
    key_id: bytes
    content_id: bytes
    pack_id: bytes | None = None
    serial: int = 0
    raw: bytes = field(default=b"", repr=False)


def read_header(data: bytes) -> Header:
    need(data[:4] == b"\x89PLD"[: len(data)], "not a payload file")
    cursor = Cursor(data, 0, "truncated")
    cursor.take(4)
    version = cursor.number(1)
    need(version == 2, f"version {version}; this reader knows version 2", "unsupported")
    flags = cursor.number(1)
    need(flags < 4, f"flags {flags} are unknown", "unsupported")
    length = cursor.varint(1, MAX_FILE, "the length of the file")
    images = cursor.varint(1, MAX_IMAGES, "the number of images")
    classes = cursor.varint(1, 65535, "the number of classes")
    key_id, content_id = cursor.take(8), cursor.take(8)
    pack_id = cursor.take(8) if flags & 1 else None
    serial = cursor.varint(1, 2**32 - 1, "the serial number") if flags & 2 else 0
    need(cursor.at < length, f"a file of {length} bytes")
    return Header(length, images, classes, key_id, content_id, pack_id, serial, data[: cursor.at])


Segments = list[bytes | None]  # bodies; None: not whole


def read_sections(data: bytes, header: Header, partial: bool) -> tuple[dict[int, bytes], tuple[int, Segments] | None]:
    """Bodies by type, and the kind and bodies of the segments if there is a plan."""
    need(len(data) <= header.length, f"{len(data) - header.length} bytes behind the end")
    if not partial:
        need(len(data) == header.length, f"{len(data)} of {header.length} bytes", "truncated")
    cursor = Cursor(data, len(header.raw), "corrupt" if len(data) == header.length else "truncated")
    found, last = dict[int, bytes](), -1
    plan: tuple[int, Segments] | None = None
    while cursor.at < header.length:
        start = cursor.at
        kind = cursor.number(1)
        size = cursor.varint()
        need(cursor.at + size + 4 <= header.length, f"a section of {size} bytes at offset {start} passes the end")
        body = cursor.take(size)
        crc = zlib.crc32(header.raw + data[start : cursor.at])
        need(crc == cursor.number(4), f"the checksum of the section at offset {start}")
        need(kind not in found and last != 0xFF, f"section {kind} at offset {start} is out of place")
        need(kind >= 0x80 or 1 <= kind <= 3, f"section {kind} is unknown", "unsupported")
        need(kind != 0x81 or not found, "names and notes that are not the first section")
        need(kind >= 0x80 or not found.keys() & {1, 2, 3}, "a second content")
        found[kind], last = body, kind
        if kind == 2:
            plan = read_segments(body, cursor, header, partial)
            if partial:
                return found, plan
    need(bool(found.keys() & {1, 2, 3}), "no section of labels")
    return found, plan


def read_segments(plan: bytes, cursor: Cursor, header: Header, partial: bool) -> tuple[int, Segments]:
    sizes = Cursor(plan)
    kind = sizes.number(1)
    need(kind <= 2, f"segments of kind {kind} are unknown", "unsupported")
    lengths = [sizes.varint() for _ in range(sizes.varint(1, 16 if kind == 2 else 4096, "the number of segments"))]
    need(not sizes.rest(), "bytes behind the plan of the segments")
    need(cursor.at + sum(lengths) + 4 * len(lengths) <= header.length, "segments that pass the end of the file")
    bodies: Segments = []
    for number, size in enumerate(lengths):
        body, crc = cursor.data[cursor.at : cursor.at + size], cursor.data[cursor.at + size : cursor.at + size + 4]
        whole = crc == struct.pack("<I", zlib.crc32(header.raw + varint_bytes(number) + body))
        need(whole or partial, f"the checksum of segment {number}")
        bodies.append(body if whole else None)
        cursor.at += size + 4
    return kind, bodies


# ---- sections 5 to 7: labels, segments, changes -----------------------------------------------------------------------


@dataclass(frozen=True)
class Shared:
    """What some payloads need beside their bytes. `bounds` of blocks; features of a pack by position."""

    bounds: Sequence[int] | None = None
    dimensions: int = 0
    row: Callable[[int], Sequence[int]] = no_features
    pack_id: bytes = b""


@dataclass(frozen=True)
class Payload:
    header: Header
    pairs: Pairs
    names: list[str]
    notes: dict[str, Any]
    signature: bytes | None = None  # the body of its section
    segments: tuple[int, int] | None = None  # read, there are

    def digest(self) -> bytes:
        names, notes = "\0".join(self.names).encode(), notes_text(self.notes).encode()
        h = self.header
        numbers = struct.pack("<6I", h.images, h.classes, h.serial, len(self.pairs), len(names), len(notes))
        hashed = b"plada content 1\0" + numbers + h.key_id + h.content_id + pair_bytes(self.pairs) + names + notes
        return hashlib.sha256(hashed).digest()[:8]


def decode(data: bytes, shared: Shared | None = None, *, old: Payload | None = None, partial: bool = False) -> Payload:
    """What a file says. `old` is what a file of changes applies to; `partial` takes what is whole of a file in segments."""
    shared = shared or Shared()
    header = read_header(data)
    found, segments = read_sections(data, header, partial)
    ref = reference_of(header, shared)
    signature = found.get(0xFF)
    if signature is not None:
        need(len(signature) == 69 and signature[0] == 1, "a signature of an unknown kind", "unsupported")
    if 3 in found:
        need(0x81 not in found, "names and notes in a file of changes")
        if old is None:
            raise Refused("missing", "a file of changes needs the payload it applies to (--old)")
        return replace(apply_changes(found[3], header, ref, old), signature=signature)
    about = read_about(found[0x81], header.classes) if 0x81 in found else (None, None)
    names, notes = about[0] or numbered(header.classes), about[1] or {}
    if segments is None:
        return Payload(header, read_content(found[1], ref), names, notes, signature)
    pairs = join_segments(*segments, ref)
    there = sum(body is not None for body in segments[1])
    return Payload(header, pairs, names, notes, signature, (there, len(segments[1])))


def reference_of(header: Header, shared: Shared) -> Reference:
    bounds, ref = shared.bounds, Reference(header.images, header.classes, pack_named=header.pack_id is not None)
    if bounds is not None:
        rising = bounds[0] == 0 and all(a < b for a, b in itertools.pairwise(bounds))
        need(rising and bounds[-1] == header.images, f"blocks of {bounds[-1]} images, not {header.images}", "reference")
        ref = replace(ref, bounds=cut(bounds))
    if header.pack_id is not None and shared.dimensions:
        need(
            shared.pack_id[:8] == header.pack_id,
            f"pack {shared.pack_id[:8].hex()}, not {header.pack_id.hex()}",
            "reference",
        )
        ref = replace(ref, dimensions=shared.dimensions, row=shared.row)
    return ref


def numbered(classes: int) -> list[str]:
    return [str(c) for c in range(classes)]


def join_segments(kind: int, bodies: Segments, ref: Reference) -> Pairs:
    pairs: Pairs = []
    if kind == 2:
        for body in bodies:
            pairs += read_content(body, ref) if body is not None else []
    else:
        bounds = even_bounds(ref.images) if kind == 0 else ref.bounds
        if bounds is None:
            raise Refused("missing", "these segments need the blocks of the reference (--keys)")
        blocks, count = len(bounds) - 1, len(bodies)
        need(count <= blocks, f"{count} segments of {blocks} blocks")
        dealt = sorted(range(blocks), key=lambda b: b * 2654435769 % 2**32)
        ref = replace(ref, bounds=bounds)
        for number, body in enumerate(bodies):
            if body is not None:
                mine = sorted(b for r, b in enumerate(dealt) if r * count // blocks == number)
                part, outside = ref.part(mine)
                pairs += [(outside(position), label) for position, label in read_content(body, part)]
    pairs.sort()
    need(all(a[0] < b[0] for a, b in itertools.pairwise(pairs)), "a position in two segments")
    need(len(pairs) <= MAX_NAMED, "more than 2^24 images")
    return pairs


def runs_of(images: Pairs, classes: int) -> Reference:
    """The virtual reference of images sorted by class, whose blocks are the runs of one class."""
    starts = [i for i, (_, c) in enumerate(images) if i == 0 or c != images[i - 1][1]]
    return Reference(max(len(images), 1), classes, cut([*starts, len(images)] if images else [0, 1]))


def apply_changes(body: bytes, header: Header, ref: Reference, old: Payload) -> Payload:
    cursor, before = Cursor(body), old.header
    same = (header.images, header.key_id, header.content_id) == (before.images, before.key_id, before.content_id)
    need(same, "changes of a payload of another reference", "reference")
    old_digest, new_digest, flags = cursor.take(8), cursor.take(8), cursor.number(1)
    need(flags < 2, f"flags {flags} of changes")
    runs = [[cursor.varint() for _ in range(3)] for _ in range(cursor.varint(0, len(body)))]
    pairs = [(cursor.varint(), cursor.varint()) for _ in range(cursor.varint(0, len(body)))]
    about, gone_body, changed_body = (cursor.take(cursor.varint()) for _ in range(3))
    need(old_digest == old.digest(), "changes of another payload", "reference")

    meaning, fresh, new_old, at = dict[int, int](), set[int](), list[int | None](), 0
    for taken, left, new in runs:
        need(at + taken + left <= before.classes and len(new_old) + taken + new <= header.classes, "too many classes")
        for c in range(at, at + taken):
            meaning[c] = len(new_old)
            new_old.append(c)
        at += taken + left
        fresh.update(range(len(new_old), len(new_old) + new))
        new_old += [None] * new
    need(len(new_old) == header.classes, f"{len(new_old)} classes, not {header.classes}")
    need(len({c for c, _ in pairs}) == len({c for _, c in pairs}) == len(pairs), "a class in two pairs")
    for new, was in pairs:
        need(new in fresh and was < before.classes and was not in meaning, "a pair of classes of another kind")
    meaning.update({was: new for new, was in pairs})

    fresh_names, notes = read_about(about, len(fresh)) if about else (None, None)
    need(len(fresh_names or []) == len(fresh), "fresh classes without names")
    need(notes is None or flags & 1 == 1, "notes that replace none")
    names_left = iter(fresh_names or [])
    names = [next(names_left) if c is None else old.names[c] for c in new_old]
    need(len(set(names)) == len(names), "two classes of one name")

    images = sorted(old.pairs, key=lambda pair: (pair[1], pair[0]))
    gone = {i for i, _ in read_content(gone_body, runs_of(images, 1))}
    need(not gone or max(gone) < len(images), "an image that is gone and was not there")
    images = [pair for i, pair in enumerate(images) if i not in gone]
    changed = dict(read_content(changed_body, runs_of(images, header.classes)))
    need(not changed or max(changed) < len(images), "an image that is changed and is not there")
    labels = {}
    for i, (position, c) in enumerate(images):
        need(i in changed or c in meaning, f"position {position} keeps a class that is left out")
        labels[position] = changed[i] if i in changed else meaning[c]
    for position, label in read_content(cursor.rest(), ref):
        need(position not in labels, f"position {position} is added and was there")
        labels[position] = label
    need(len(labels) <= MAX_NAMED, "more than 2^24 images")
    result = Payload(header, sorted(labels.items()), names, (notes or {}) if flags & 1 else old.notes)
    need(result.digest() == new_digest, "what comes out is not what was sent")
    return result


def check_signature(data: bytes, payload: Payload, public_key: bytes) -> None:
    """Section 8: refuse what this key has not signed."""
    body = payload.signature
    if body is None:
        raise Refused("signature", "the file is not signed")
    need(body[1:5] == hashlib.sha256(public_key).digest()[:4], "signed by another key", "signature")
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(body[5:], b"plada signature 1\0" + data[:-68])
    except InvalidSignature as error:
        raise Refused("signature", "the signature is not of these bytes") from error


# ---- keys, packs, command line ----------------------------------------------------------------------------------------


def bounds_of_keys(keys: list[bytes]) -> list[int] | None:
    """Bounds of blocks of sorted keys, or None where no key has a folder."""
    folders = [key.rpartition(b"/")[:2] for key in keys]
    if not any(slash for _, slash in folders):
        return None
    return cut([i for i in range(len(keys)) if i == 0 or folders[i] != folders[i - 1]] + [len(keys)])


def key_id(keys: list[bytes]) -> bytes | None:
    """The first 8 bytes of the key id of sorted keys; None without the package blake3."""
    try:
        from blake3 import blake3
    except ImportError:
        return None
    lengths = struct.pack(f"<{len(keys)}I", *map(len, keys))
    return bytes(blake3(b"plada key id 1\0" + struct.pack("<Q", len(keys)) + lengths + b"".join(keys)).digest()[:8])


def read_pack(data: bytes) -> tuple[Shared, int, bytes]:
    """pack-format.md: the features, N, and the key id."""
    need(data[:4] == b"\x89PLP"[: len(data)], "not a pack")
    need(len(data) >= 64, "the pack's header", "truncated")
    need(data[4] <= 1, f"a pack of version {data[4]}", "unsupported")
    need(zlib.crc32(data[:60]) == int.from_bytes(data[60:64], "little"), "the checksum of the pack's header")
    version, kind, header, images, d, scale = struct.unpack_from("<BBHIHH", data, 4)
    need((version, kind, header, scale) == (1, 1, 64, 32) and not any(data[48:60]), "fields of the pack's header")
    need(images > 0 and 1 <= d <= 4096, "fields of the pack's header")
    need(len(data) >= 64 + images * d, "the pack's features", "truncated")
    need(len(data) == 64 + images * d, "bytes behind the pack's features")
    need(hashlib.sha256(data[:32] + data[64:]).digest()[:16] == data[32:48], "the pack's id is not that of its bytes")
    features = memoryview(data)[64:].cast("b")
    return Shared(None, d, lambda i: features[i * d : i * d + d], data[32:48]), images, data[16:32]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Decode a payload file: CSV of position, label, class.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--keys", type=Path, help="keys of the reference, one a line; or NAME.json, bounds of blocks")
    parser.add_argument("--pack", type=Path)
    parser.add_argument("--old", type=Path, help="the payload that a file of changes applies to")
    parser.add_argument("--partial", action="store_true", help="take what is whole of a file in segments")
    parser.add_argument("--public-key", help="32 bytes in hexadecimal: refuse what this key has not signed")
    parser.add_argument("--min-serial", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        payload = run(options)
    except (Refused, OSError) as error:
        print(f"plada_decode: {options.file}: {error}", file=sys.stderr)
        return 1
    if payload.signature is not None:
        verified = "verified" if options.public_key else "not verified"
        print(f"signed by key {payload.signature[1:5].hex()}, {verified}", file=sys.stderr)
    if payload.segments is not None:
        print("{} of {} segments".format(*payload.segments), file=sys.stderr)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("position", "label", "class"))
    writer.writerows((position, label, payload.names[label]) for position, label in payload.pairs)
    return 0


def run(options: argparse.Namespace) -> Payload:
    data = options.file.read_bytes()
    header = read_header(data)
    shared = Shared()
    if options.pack:
        shared, images, whole_key_id = read_pack(options.pack.read_bytes())
        need(
            images == header.images and whole_key_id[:8] == header.key_id,
            "the pack is of another reference",
            "reference",
        )
    if options.keys and options.keys.suffix == ".json":
        shared = replace(shared, bounds=json.loads(options.keys.read_text()))
    elif options.keys:
        keys = sorted(options.keys.read_bytes().removesuffix(b"\n").split(b"\n"))
        need(len(keys) == header.images, f"{len(keys)} keys, not {header.images}", "reference")
        need(key_id(keys) in (None, header.key_id), "the keys are of another reference", "reference")
        shared = replace(shared, bounds=bounds_of_keys(keys))
    old = decode(options.old.read_bytes(), shared) if options.old else None
    payload = decode(data, shared, old=old, partial=options.partial)
    if options.public_key:
        check_signature(data, payload, bytes.fromhex(options.public_key))
    need(header.serial >= options.min_serial, f"serial number {header.serial} is too low", "signature")
    return payload


if __name__ == "__main__":
    sys.exit(main())
