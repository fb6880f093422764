"""Model of positions and labels that follows the features of a pack: the part that runs image by image.

docs/payload-coders.md section 5 is the authority; arithmetic.py says how these functions run. What a stretch of images
looks like to the weights (`features.py`) comes in as scores.
"""

from plada.payload.arithmetic import DECODING, Ints, Tables, code, learn_mix, learn_slot, logarithm, mix, slot

INPUTS = 6
BUCKETS = 120
EXPERTS = 4


def code_kept_label(
    io: Ints, buffer: Ints, label: int, classes: int, width: int, row: Ints, at: int, soft: Ints, here: Ints, base: int,
    seen: Ints, weights: Ints, f: Ints, shares: Ints, total_seen: int,
) -> int:  # fmt: skip
    """Code the class of one kept image."""
    z0 = 0
    z1 = 0
    z3 = 0
    inside = 0
    for c in range(classes):
        e = row[at + c]
        z0 += e
        z1 += e * (2 * here[base + c] + 1)
        z3 += soft[at + c]
        inside += here[base + c]
    u0 = z0 // (1 << 20) + 1
    u1 = z1 // (1 << 20) + 1
    u3 = z3 // (1 << 20) + 1
    d2 = inside * 16 * (total_seen * 2 + classes) + (total_seen * 2 + classes) * 8
    for c in range(classes):
        e = row[at + c]
        p2 = ((here[base + c] * 16 * (total_seen * 2 + classes) + (2 * seen[c] + 1) * 8) << 20) // d2
        f[width + c] = (
            weights[0] * (e // u0) + weights[1] * (e * (2 * here[base + c] + 1) // u1) + weights[2] * p2
            + weights[3] * (soft[at + c] // u3) + 1
        )  # fmt: skip
    for c in range(width + classes, 2 * width):
        f[c] = 0
    for node in range(width - 1, 0, -1):
        f[node] = f[2 * node] + f[2 * node + 1]
    node = 1
    half = width
    while half > 1:
        half >>= 1
        left = 2 * node
        a = f[left] >> 10
        b = f[left + 1] >> 10
        if f[left + 1] == 0:
            node = left
        else:
            node = left + code(io, buffer, 1 if label & half else 0, min(max((b << 16) // (a + b + 1), 1), 65535))
    label = node - width
    e = row[at + label]
    shares[0] = e // u0
    shares[1] = e * (2 * here[base + label] + 1) // u1
    shares[2] = ((here[base + label] * 16 * (total_seen * 2 + classes) + (2 * seen[label] + 1) * 8) << 20) // d2
    shares[3] = soft[at + label] // u3
    total = 0
    for j in range(EXPERTS):
        total += weights[j] * shares[j]
    total = (total >> 20) + 1
    sum_ = 0
    for j in range(EXPERTS):
        w = weights[j] * shares[j] // total
        weights[j] = w - (w >> 7) + 2048
        sum_ += weights[j]
    for j in range(EXPERTS):
        weights[j] = (weights[j] << 20) // sum_
    here[base + label] += 1
    seen[label] += 1
    return label


def code_stretch(
    io: Ints, buffer: Ints, rows: Ints, blocks: Ints, logits: Ints, exps: Ints, soft: Ints, marks: Ints, classes: int, width: int, kept: int,
    images: int, state: Ints, t: Tables, weights: Ints, values: Ints, counts: Ints, label_weights: Ints,
    n_here: Ints, e_here: Ints, s_here: Ints, here: Ints, seen: Ints, f: Ints, x: Ints, shares: Ints, par: Ints,
) -> int:  # fmt: skip
    """Code kept or not, and the label, of a stretch of images; `marks`: class + 1 of kept images, 0 of others."""
    l0 = logarithm(t[2], kept) - logarithm(t[2], max(images - kept, 1))
    done = state[0]
    for i in range(len(rows)):
        if done == kept:
            break
        b = blocks[i]
        n = n_here[b]
        e = e_here[b]
        seen_here = s_here[b] * kept // 1
        logit = logits[i]
        x[0] = (
            logit + logarithm(t[2], 2 * n + 1) - logarithm(t[2], ((2 * e) >> 16) + 1)
            if False
            else logit + logarithm(t[2], (2 * n + 1) << 16) - logarithm(t[2], 2 * e + 65536)
        )
        x[1] = logit + logarithm(t[2], (n + 4) << 16) - logarithm(t[2], e + 4 * 65536)
        s0 = min(max(x[0] + 2880, 0), 5759) // 48
        s1 = BUCKETS + min(max(logit + 2880, 0), 5759) // 48
        p0 = t[0][min(max(s0 * 48 + 24 - 2880, -2839), 2839) + 2839]
        p1 = t[0][min(max((s1 - BUCKETS) * 48 + 24 - 2880, -2839), 2839) + 2839]
        x[2] = t[1][slot(values, counts, s0, p0, 8)]
        x[3] = t[1][slot(values, counts, s1, p1, 8)]
        x[4] = l0 + logarithm(t[2], (4 * n + 1) * images) - logarithm(t[2], 4 * seen_here + images)
        x[5] = l0 + logarithm(t[2], (n + 2) * images) - logarithm(t[2], seen_here + 2 * images)
        at = min(n, 3) * INPUTS
        p = mix(t[0], weights, at, x, INPUTS)
        bit = code(io, buffer, 1 if marks[i] else 0, p)
        err = (bit << 16) - p
        if err > 300 or err < -300:
            learn_mix(weights, at, x, INPUTS, bit, p, par[0])
        learn_slot(values, counts, s0, bit, 1000)
        learn_slot(values, counts, s1, bit, 1000)
        e_here[b] = e + t[0][min(max(logit, -2839), 2839) + 2839]
        s_here[b] += 1
        if bit:
            n_here[b] = n + 1
            label = code_kept_label(
                io, buffer, marks[i] - 1, classes, width, exps, i * classes, soft, here, b * classes, seen,
                label_weights, f, shares, done,
            )  # fmt: skip
            marks[i] = label + 1
            done += 1
        else:
            marks[i] = 0
    state[0] = done
    return done
