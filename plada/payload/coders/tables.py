"""Integer tables of the models, made by a recipe in whole numbers alone, so that every machine has the same ones.

docs/payload-coders.md section 2 is the recipe; `digests` are the SHA-256 that it names. Logits are in units of 1/256 nat.
"""

import hashlib
from functools import cache
from math import isqrt

LIMIT = 2839  # the logit of 65535/65536, rounded; no logit lies beyond
ONE = 1 << 64
LEVELS = 12  # a count n is coded as the number of bits of n first: "more than j bits?" for j < LEVELS
MEANS = 65  # rows of NB: means e^((88 q + 44) / 256) / 65536


@cache
def exponentials() -> tuple[int, ...]:
    """e^(i/256) * 2^64 for i = 0 .. 5763, each from the one before."""
    step = term = ONE
    divisor = 256
    while term:
        term //= divisor
        step += term
        divisor += 256
    values = [ONE]
    while len(values) < 88 * MEANS + 44:
        values.append(values[-1] * step >> 64)
    return tuple(values)


@cache
def squash() -> tuple[int, ...]:
    """SQ[s + LIMIT]: the probability, in 1/65536, whose logit is s; 1 .. 65535."""
    upper = [min((x << 16) // (x + ONE), 65535) for x in exponentials()[: LIMIT + 1]]
    return tuple([65536 - p for p in upper[:0:-1]] + upper)


@cache
def stretch() -> tuple[int, ...]:
    """ST[p]: the logit of p / 65536; ST[0] is that of 1."""
    powers, s, upper = exponentials(), 0, []
    for p in range(32768, 65536):
        while s < LIMIT and powers[s] * (65536 - p) < p * ONE:
            s += 1
        upper.append(s)
    return (-LIMIT, *[-s for s in upper[:0:-1]], *upper)


@cache
def logarithm() -> tuple[int, ...]:
    """LN[m]: 256 ln(1 + m / 1024)."""
    powers, s, values = exponentials(), 0, []
    for m in range(1024):
        while powers[s] * 1024 < (1024 + m) * ONE:
            s += 1
        values.append(s)
    return tuple(values)


@cache
def exponential() -> tuple[int, ...]:
    """EXP[s + LIMIT]: e^(s/256) in 1/2^24."""
    powers = exponentials()[: LIMIT + 1]
    return tuple([(ONE * ONE // x) >> 40 for x in powers[:0:-1]] + [x >> 40 for x in powers])


@cache
def negative_binomial() -> tuple[int, ...]:
    """NB[q * LEVELS + j]: the logit of P(n >= 2^j | n >= 2^(j-1)), for j = 0 of P(n >= 1).

    n is negative binomial with shape 1/4 and the mean of row q.
    """
    powers = exponentials()
    values: list[int] = []
    for q in range(MEANS):
        mean = powers[88 * q + 44] >> 14  # mean / shape, in 1/2^64
        whole = mean + ONE
        term = isqrt(isqrt((1 << 192) // whole << 128) << 128)  # P(n = 0), in 1/2^128
        tail, before, n = (1 << 128) - term, 1 << 128, 0
        for j in range(LEVELS):
            if before < 1 << 96:  # too rare to matter
                values.append(-LIMIT)
                continue
            values.append(stretch()[min(max((tail << 16) // before, 1), 65535)])
            before = tail
            while n + 1 < 2 << j:
                term = term * mean * (4 * n + 1) // (whole * 4 * (n + 1))
                tail -= term
                n += 1
    return tuple(values)


def digests() -> dict[str, str]:
    """SHA-256 of each table, its entries as 8 bytes each, two's complement, little endian."""
    tables = {
        "SQ": squash(), "ST": stretch(), "LN": logarithm(), "EXP": exponential(), "NB": negative_binomial(),
    }  # fmt: skip
    return {
        name: hashlib.sha256(b"".join(v.to_bytes(8, "little", signed=True) for v in table)).hexdigest()
        for name, table in tables.items()
    }
