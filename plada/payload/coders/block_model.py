"""Model of positions and labels that knows where the reference's folders begin and end, and nothing of the pictures.

First how many images each class has; then, block by block, how many images are kept, which, and their labels.
docs/payload-coders.md section 4 is the authority; arithmetic.py says how these functions run. `t` are the tables SQ,
ST, LN and NB.
"""

from typing import NamedTuple

from plada.payload.coders.arithmetic import DECODING, Ints, Tables, code, learn_experts, learn_slot, logarithm, slot
from plada.payload.coders.tables import LEVELS, MEANS

LARGEST = 2048  # longer blocks are cut into pieces of this
EXPERTS = 7
NUMBERS = LEVELS * MEANS + 6  # slots of a coder of numbers
START = (20972, 41943, 41943, 157286, 262144, 314573, 209715)  # weights of the experts, in 1/2^20


class BlockModel(NamedTuple):
    """What the model has learned. Four trees over the classes (node v has the children 2 v and 2 v + 1, leaves begin in
    the middle, a node is the sum of its leaves) are the O, R, T and H of the document."""

    width: int
    values: Ints  # slots of the numbers of images, with
    counts: Ints  # how often each was used
    weights: Ints  # of the experts
    shares: Ints  # scratch: what each expert gave to the last label
    open_classes: Ints  # O: 1 for each class with images to come
    remaining: Ints  # R: its images to come
    recent: Ints  # T: labels of the blocks before, in 1/256, fading
    in_block: Ints  # H: labels of this block
    recent_leaves: Ints  # leaves whose `recent` is not 0


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


def code_label(io: Ints, buffer: Ints, label: int, model: BlockModel) -> int:
    """Code the class of one image by halving the classes; gives the class."""
    weights, shares = model.weights, model.shares
    open_classes, remaining, recent, in_block = model.open_classes, model.remaining, model.recent, model.in_block
    width = model.width
    around, inside = recent[1], in_block[1]
    unit = (1 << 40) // remaining[1]
    base = weights[1]
    both = weights[2]
    local = 0
    for e in range(EXPERTS - 3):
        mass = 16 << 2 * e
        w = weights[3 + e]
        both += w * mass // (256 * inside + mass)
        local += (w << 8) // (256 * inside + mass)
    f_recent = (both << 12) // (around + 1024)
    base += (both << 10) // (around + 1024)
    f_open = (weights[0] << 12) // open_classes[1]
    f_remaining = base * unit >> 28
    f_block = local << 12
    node = 1
    half = width
    while half > 1:
        half >>= 1
        left = 2 * node
        right = left + 1
        if open_classes[right] == 0:
            node = left
        elif open_classes[left] == 0:
            node = right
        else:
            a = (
                f_open * open_classes[left] + f_remaining * remaining[left] + f_recent * recent[left]
                + f_block * in_block[left]
            )  # fmt: skip
            b = (
                f_open * open_classes[right] + f_remaining * remaining[right] + f_recent * recent[right]
                + f_block * in_block[right]
            )  # fmt: skip
            node = left + code(io, buffer, 1 if label & half else 0, min(max((b << 16) // (a + b), 1), 65535))
    q = unit * remaining[node] >> 10
    qp = ((recent[node] << 30) + 1024 * q) // (around + 1024)
    shares[0] = (1 << 30) // open_classes[1]
    shares[1] = q
    shares[2] = qp
    for e in range(EXPERTS - 3):
        mass = 16 << 2 * e
        shares[3 + e] = ((in_block[node] << 38) + mass * qp) // (256 * inside + mass)
    learn_experts(weights, shares, EXPERTS, 1024)
    add(remaining, node, -1)
    add(in_block, node, 1)
    if remaining[node] == 0:
        add(open_classes, node, -1)
        add(recent, node, -recent[node])
        add(in_block, node, -in_block[node])
    return node - width


def learn_block(labels: Ints, begin: int, end: int, listed: int, model: BlockModel) -> int:
    """At the end of a block: labels of earlier blocks fade, this block's are added. The first `listed` of
    `model.recent_leaves` are in use; gives how many are now."""
    remaining, recent, in_block, leaves = model.remaining, model.recent, model.in_block, model.recent_leaves
    width = model.width
    count = 0
    for i in range(listed):
        node = leaves[i]
        loss = (recent[node] + 15) >> 4
        add(recent, node, -loss)
        if recent[node]:
            leaves[count] = node
            count += 1
    for i in range(begin, end):
        node = width + labels[i]
        if in_block[node]:
            add(in_block, node, -in_block[node])
        if remaining[node]:
            if recent[node] == 0:
                leaves[count] = node
                count += 1
            add(recent, node, 256)
    return count


def code_blocks(
    io: Ints, buffer: Ints, bounds: Ints, positions: Ints, labels: Ints, kept: int, t: Tables, model: BlockModel
) -> int:
    """Code positions and labels; 0, or -1 for what cannot be."""
    blocks = len(bounds) - 1
    images = bounds[blocks]
    left, at, listed = kept, 0, 0
    values, counts = model.values, model.counts
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
            labels[i] = code_label(io, buffer, labels[i], model)
        if n:
            listed = learn_block(labels, begin, at, listed, model)
    return 0 if left == 0 else -1
