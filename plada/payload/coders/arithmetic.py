"""The arithmetic coder, and what every model is made of: adaptive slots and mixers. Whole numbers only.

The functions here and in `block_model.py` and `pack_model.py` run as they stand on lists of Python's whole numbers, and compiled
by numba on arrays of int64 (`compiled.py`): one source, so the same bytes. No value leaves 64 bits; `>>` rounds down.
docs/payload-coders.md is the authority.

One call codes in both directions: `code` writes `bit` when encoding, and when decoding ignores it and gives the bit
that was written. So a model is written once, and cannot differ between sender and receiver.

State `io`, int64 [6]: low and high end of the interval, the decoder's window, place in the buffer, 1 if decoding, and
the zero bytes just written. A buffer that is too short is not written beyond; the place goes on counting.
"""

from collections.abc import MutableSequence

Ints = MutableSequence[int]  # a list, or an array of int64
Tables = tuple[Ints, ...]

LOW, HIGH, WINDOW, AT, DECODING, ZEROS = range(6)
TOP = 0xFFFFFFFF


def start(io: Ints, buffer: Ints, decoding: int) -> None:
    """Set up the state; a decoder takes the first four bytes of its buffer, zeros where there are none."""
    io[LOW], io[HIGH], io[WINDOW], io[AT], io[DECODING], io[ZEROS] = 0, TOP, 0, 0, decoding, 0
    if decoding:
        for _ in range(4):
            io[WINDOW] = io[WINDOW] << 8 | take(io, buffer)


def take(io: Ints, buffer: Ints) -> int:
    """The next byte, or 0 past the end."""
    at = io[AT]
    io[AT] = at + 1
    return buffer[at] if at < len(buffer) else 0


def put(io: Ints, buffer: Ints, byte: int) -> None:
    """Write a byte, and count how many zeros are at the end."""
    at = io[AT]
    if at < len(buffer):
        buffer[at] = byte
    io[AT] = at + 1
    io[ZEROS] = io[ZEROS] + 1 if byte == 0 else 0


def code(io: Ints, buffer: Ints, bit: int, p: int) -> int:
    """Code one bit that is 1 with probability p / 65536, 0 < p < 65536; gives the bit."""
    low, high = io[LOW], io[HIGH]
    r = high - low
    middle = low + (r >> 16) * p + (((r & 0xFFFF) * p) >> 16)
    if io[DECODING]:
        bit = 1 if io[WINDOW] <= middle else 0
    if bit:
        high = middle
    else:
        low = middle + 1
    while (low ^ high) >> 24 == 0:
        if io[DECODING]:
            io[WINDOW] = (io[WINDOW] << 8 & TOP) | take(io, buffer)
        else:
            put(io, buffer, high >> 24)
        low = low << 8 & TOP
        high = (high << 8 & TOP) | 0xFF
    io[LOW] = low
    io[HIGH] = high
    return bit


def finish(io: Ints, buffer: Ints) -> int:
    """Write the shortest tail that names a number in the interval; gives the length without zeros at the end."""
    low, high = io[LOW], io[HIGH]
    count, unit = 0, 1 << 32
    value = (low + unit - 1) // unit * unit
    while value > high:
        count, unit = count + 1, unit >> 8
        value = (low + unit - 1) // unit * unit
    for place in range(count):
        put(io, buffer, value >> (24 - 8 * place) & 0xFF)
    return io[AT] - io[ZEROS]


def logarithm(ln: Ints, value: int) -> int:
    """256 ln(value) of a whole number from 1 to 2^62, within one unit."""
    bits, high = 0, value
    while high > 255:
        high >>= 8
        bits += 8
    while high > 1:
        high >>= 1
        bits += 1
    top = value >> (bits - 10) if bits >= 10 else value << (10 - bits)
    return ln[top - 1024] + (bits * 45426 >> 8)


def slot(values: Ints, counts: Ints, at: int, p: int, n: int) -> int:
    """Probability (1/65536) of an adaptive slot; one that was never used starts at p with the weight of n uses."""
    if counts[at] == 0:
        values[at] = p << 6
        counts[at] = n
    return min(max(values[at] >> 6, 1), 65535)


def learn_slot(values: Ints, counts: Ints, at: int, bit: int, limit: int) -> None:
    """Move a slot towards what happened, by less and less until it was used `limit` times."""
    n = counts[at]
    values[at] += (((bit << 22) - values[at]) * (131072 // (2 * n + 3))) >> 16
    if n < limit:
        counts[at] = n + 1


def mix(sq: Ints, weights: Ints, at: int, inputs: Ints, count: int) -> int:
    """Probability (1/65536) from `count` logits and the weights (1/65536) that begin at `at`."""
    dot = 32768
    for i in range(count):
        dot += weights[at + i] * inputs[i]
    return sq[min(max(dot >> 16, -2839), 2839) + 2839]


def learn_mix(weights: Ints, at: int, inputs: Ints, count: int, bit: int, p: int, rate: int) -> None:
    """Move the weights so that the mix would have been nearer to what happened."""
    error = ((bit << 16) - p) * rate
    for i in range(count):
        weights[at + i] += (inputs[i] * error + 131072) >> 18


def learn_experts(weights: Ints, shares: Ints, count: int, floor: int) -> None:
    """Move the weights (1/2^20, summing to about 1) of a linear mixture towards the experts whose `shares` of what happened
    were large; each keeps `floor`."""
    whole = 0
    for e in range(count):
        whole += weights[e] * shares[e]
    whole = (whole >> 20) + 1
    after = 0
    for e in range(count):
        w = weights[e] * shares[e] // whole
        weights[e] = w - (w >> 7) + floor
        after += weights[e]
    for e in range(count):
        weights[e] = (weights[e] << 20) // after
