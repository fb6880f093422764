"""Model of positions and labels that knows where the reference's folders begin and end, and nothing of the pictures.

First how many images each class has; then, block by block, how many images are kept, which, and their labels.
docs/payload-coders.md section 4 is the authority; arithmetic.py says how these functions run. `t` are the tables SQ,
ST, LN and NB.
"""

from plada.payload.coders.arithmetic import DECODING, Ints, Tables, code, learn_experts, learn_slot, logarithm, slot
from plada.payload.coders.tables import LEVELS, MEANS

LARGEST = 2048  # longer blocks are cut into pieces of this
EXPERTS = 7
NUMBERS = LEVELS * MEANS + 6  # slots of a coder of numbers
START = (20972, 41943, 41943, 157286, 262144, 314573, 209715)  # weights of the experts, in 1/2^20


def bits_of(n: int) -> int:
    """Bits of a whole number, 0 of 0."""
    bits = 0
    while n:
        n >>= 1
        bits += 1
    return bits


def row_of(t: Tables, top: int, bottom: int) -> int:
    """Row of NB for the mean top / bottom; top below 2^46, bottom at least 1."""
    mean = (top << 16) // bottom
    return min(logarithm(t[2], mean) // 88, MEANS - 1) if mean else 0


def code_number(io: Ints, buffer: Ints, n: int, most: int, row: int, t: Tables, values: Ints, counts: Ints) -> int:
    """Code n, 0 .. most: how many bits it has, each step with a slot of its own that begins at NB; then the others."""
    longest = bits_of(most)
    bits = bits_of(n)
    seen = 0
    while seen < longest:
        level = min(seen, LEVELS - 1)
        at = row * LEVELS + level
        p = slot(values, counts, at, t[0][t[3][row * LEVELS + level] + 2839], 4)
        bit = code(io, buffer, 1 if bits > seen else 0, p)
        learn_slot(values, counts, at, bit, 250)
        if bit == 0:
            break
        seen += 1
    number = 1 if seen else 0
    for place in range(seen - 2, -1, -1):
        bit = 0
        if (2 * number + 1) << place <= most:
            bit = code(io, buffer, n >> place & 1, 32768)
        number = 2 * number + bit
    return number


def code_class_counts(
    io: Ints, buffer: Ints, totals: Ints, kept: int, classes: int, t: Tables, values: Ints, counts: Ints
) -> int:
    """Code how many of `kept` images each class has, into `totals` [classes]; 0, or -1 for what cannot be."""
    if classes == 1:
        totals[0] = kept
        return 0
    least = (kept + classes - 1) // classes
    largest = 0
    for c in range(classes):
        largest = max(largest, totals[c])
    excess = max(largest - least + 1, 1)
    bits = bits_of(excess)
    seen = 1
    while code(io, buffer, 1 if bits > seen else 0, 32768):
        seen += 1
        if seen > 32:
            return -1
    number = 1
    for place in range(seen - 2, -1, -1):
        number = 2 * number + code(io, buffer, excess >> place & 1, 32768)
    largest = number - 1 + least
    left = kept
    before = 0
    for c in range(classes - 1):
        n = totals[c]
        kind = 0
        for step in range(2):
            bit = 0
            if largest - step <= left and largest >= step:
                at = MEANS * LEVELS + 3 * step + before
                bit = code(io, buffer, 1 if n == largest - step else 0, slot(values, counts, at, 32768, 1))
                learn_slot(values, counts, at, bit, 250)
            if bit:
                break
            kind += 1
        if kind == 2:
            n = code_number(
                io, buffer, n, min(max(largest - 2, 0), left), row_of(t, left, classes - c), t, values, counts
            )
        else:
            n = largest - kind
        before = kind
        totals[c] = n
        left -= n
    totals[classes - 1] = left
    return 0


def add(tree: Ints, node: int, amount: int) -> None:
    """Add to a leaf and all that is above it."""
    while node > 0:
        tree[node] += amount
        node >>= 1


def code_label(
    io: Ints, buffer: Ints, label: int, width: int, weights: Ints, shares: Ints,
    open_: Ints, rest: Ints, near: Ints, here: Ints,
) -> int:  # fmt: skip
    """Code the class of one image by halving the classes; `open_` are 1 for classes that still have images to come."""
    around, inside = near[1], here[1]
    unit = (1 << 40) // rest[1]
    base = weights[1]
    both = weights[2]
    local = 0
    for e in range(EXPERTS - 3):
        mass = 16 << 2 * e
        w = weights[3 + e]
        both += w * mass // (256 * inside + mass)
        local += (w << 8) // (256 * inside + mass)
    f_near = (both << 12) // (around + 1024)
    base += (both << 10) // (around + 1024)
    f_open = (weights[0] << 12) // open_[1]
    f_rest = base * unit >> 28
    f_here = local << 12
    node = 1
    half = width
    while half > 1:
        half >>= 1
        left = 2 * node
        right = left + 1
        if open_[right] == 0:
            node = left
        elif open_[left] == 0:
            node = right
        else:
            a = f_open * open_[left] + f_rest * rest[left] + f_near * near[left] + f_here * here[left]
            b = f_open * open_[right] + f_rest * rest[right] + f_near * near[right] + f_here * here[right]
            node = left + code(io, buffer, 1 if label & half else 0, min(max((b << 16) // (a + b), 1), 65535))
    q = unit * rest[node] >> 10
    qp = ((near[node] << 30) + 1024 * q) // (around + 1024)
    shares[0] = (1 << 30) // open_[1]
    shares[1] = q
    shares[2] = qp
    for e in range(EXPERTS - 3):
        mass = 16 << 2 * e
        shares[3 + e] = ((here[node] << 38) + mass * qp) // (256 * inside + mass)
    learn_experts(weights, shares, EXPERTS, 1024)
    add(rest, node, -1)
    add(here, node, 1)
    if rest[node] == 0:
        add(open_, node, -1)
        add(near, node, -near[node])
        add(here, node, -here[node])
    return node - width


def learn_block(
    labels: Ints, begin: int, end: int, width: int, known: int, rest: Ints, near: Ints, here: Ints, active: Ints,
) -> int:  # fmt: skip
    """At the end of a block: what was near fades, this block's labels are near now; gives how many classes are."""
    still = 0
    for i in range(known):
        node = active[i]
        loss = (near[node] + 15) >> 4
        add(near, node, -loss)
        if near[node]:
            active[still] = node
            still += 1
    for i in range(begin, end):
        node = width + labels[i]
        if here[node]:
            add(here, node, -here[node])
        if rest[node]:
            if near[node] == 0:
                active[still] = node
                still += 1
            add(near, node, 256)
    return still


def code_blocks(
    io: Ints, buffer: Ints, bounds: Ints, positions: Ints, labels: Ints, kept: int, width: int, t: Tables,
    values: Ints, counts: Ints, weights: Ints, open_: Ints, rest: Ints, near: Ints, here: Ints, active: Ints,
    shares: Ints,
) -> int:  # fmt: skip
    """Code positions and labels; 0, or -1 for what cannot be."""
    blocks = len(bounds) - 1
    images = bounds[blocks]
    left, at, known = kept, 0, 0
    recent_kept, recent = 0, 0
    for block in range(blocks):
        if left == 0:
            break
        first = bounds[block]
        size = bounds[block + 1] - first
        remaining = images - first
        n = 0
        if io[DECODING] == 0:
            while at + n < kept and positions[at + n] < first + size:
                n += 1
        if left == remaining or size == remaining:
            n = min(left, size)
        else:
            row = row_of(t, size * (recent_kept + 1024), recent + 1024 * remaining // left)
            n = code_number(io, buffer, n, min(size, left), row, t, values, counts)
        recent_kept += (n << 8) - (recent_kept >> 3)
        recent += (size << 8) - (recent >> 3)
        left -= n
        begin, wanted, place = at, n, first
        while wanted:
            bit = 1
            behind = first + size - place
            if wanted < behind:
                p = ((wanted << 17) + behind) // (2 * behind)
                bit = 1 if io[DECODING] == 0 and positions[at] == place else 0
                bit = code(io, buffer, bit, min(max(p, 1), 65535))
            if bit:
                positions[at] = place
                at += 1
                wanted -= 1
            place += 1
        for i in range(begin, at):
            labels[i] = code_label(io, buffer, labels[i], width, weights, shares, open_, rest, near, here)
        if n:
            known = learn_block(labels, begin, at, width, known, rest, near, here, active)
    return 0 if left == 0 else -1
