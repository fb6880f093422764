"""Model of positions and labels that follows the features of a pack: the part that runs image by image.

docs/payload-coders.md section 5 is the authority; arithmetic.py says how these functions run. How an image looks to
the weights that were learned so far (`pack_coder.py`) comes in as scores. `t` are the tables SQ, ST, LN, NB and EXP.
"""

from typing import NamedTuple

from plada.payload.coders.arithmetic import (
    Ints,
    Tables,
    code,
    learn_experts,
    learn_mix,
    learn_slot,
    logarithm,
    mix,
    slot,
)

INPUTS = 3
BUCKETS = 120  # of 48 units of logit each
START = (21000, 21000, 21000)  # weights of the inputs, in 1/2^16
EXPERTS = 4
LABEL_START = (262144, 262144, 262144, 262144)  # weights of the experts, in 1/2^20
DULL = 300  # an error, in 1/2^16, too small to learn from


class KeepModel(NamedTuple):
    """What was learned of "kept or not", and room to work in."""

    weights: Ints  # of the inputs
    values: Ints  # slots of the two sets of buckets, with
    counts: Ints  # how often each was used
    kept_of_block: Ints  # images of each block kept so far
    expected_of_block: Ints  # and as many as were expected, in 1/65536
    inputs: Ints  # scratch


class LabelModel(NamedTuple):
    """What was learned of labels beside the weights of the classes, and room to work in."""

    classes: int
    width: int
    weights: Ints  # of the experts
    counts: Ints  # images of each block that have each class [blocks * classes]
    tree: Ints  # scratch: weights of the classes as a binary tree
    shares: Ints  # scratch: what each expert gave to the last label


class Stretch(NamedTuple):
    """Images in the order of their visits: block, logit of being kept, scores of the classes [n * classes], and mark: 0,
    or the class + 1 of an image that is kept."""

    blocks: Ints
    logits: Ints
    scores: Ints
    marks: Ints


def bucket_of(logit: int) -> int:
    """Bucket of a logit, 0 .. BUCKETS - 1."""
    return min(max(logit + 2880, 0), 48 * BUCKETS - 1) // 48


def middle_of(t: Tables, bucket: int) -> int:
    """Probability (1/2^16) in the middle of a bucket."""
    return t[0][min(max(48 * bucket + 24 - 2880, -2839), 2839) + 2839]


def code_kept_label(
    io: Ints, buffer: Ints, label: int, scores: Ints, at: int, base: int, t: Tables, model: LabelModel
) -> int:
    """Code the class of one kept image, by halving the classes; gives the class. Its scores begin
    at `at`, the counts of its block at `base`."""
    classes, width, weights, here, tree, shares = model
    best = -2839
    for c in range(classes):
        best = max(best, scores[at + c])
    plain, local, soft, sharp = 0, 0, 0, 0
    for c in range(classes):
        score, times = scores[at + c], 2 * here[base + c] + 1
        plain += t[4][score + 2839]
        local += t[4][score + 2839] * times
        soft += t[4][(score >> 1) + 2839]
        sharp += t[4][max(2 * (score - best), -2839) + 2839] * times
    plain, local, soft, sharp = (plain >> 20) + 1, (local >> 20) + 1, (soft >> 20) + 1, (sharp >> 20) + 1
    for c in range(width):
        tree[width + c] = 0
        if c < classes:
            score, times = scores[at + c], 2 * here[base + c] + 1
            tree[width + c] = (
                weights[0] * (t[4][score + 2839] // plain)
                + weights[1] * (t[4][score + 2839] * times // local)
                + weights[2] * (t[4][(score >> 1) + 2839] // soft)
                + weights[3] * (t[4][max(2 * (score - best), -2839) + 2839] * times // sharp)
                + 1024
            )
    for node in range(width - 1, 0, -1):
        tree[node] = tree[2 * node] + tree[2 * node + 1]
    node = 1
    half = width
    while half > 1:
        half >>= 1
        node *= 2
        if tree[node + 1]:
            a, b = tree[node] >> 10, tree[node + 1] >> 10
            node += code(io, buffer, 1 if label & half else 0, min(max((b << 16) // (a + b), 1), 65535))
    label = node - width
    score, times = scores[at + label], 2 * here[base + label] + 1
    shares[0] = t[4][score + 2839] // plain
    shares[1] = t[4][score + 2839] * times // local
    shares[2] = t[4][(score >> 1) + 2839] // soft
    shares[3] = t[4][max(2 * (score - best), -2839) + 2839] * times // sharp
    learn_experts(weights, shares, EXPERTS, 2048)
    here[base + label] += 1
    return label


def code_stretch(
    io: Ints, buffer: Ints, stretch: Stretch, kept: int, done: int, t: Tables, model: KeepModel, labels: LabelModel
) -> int:
    """Code whether each image of a stretch is kept, and as what. Stops with the last of `kept` images.

    `done` images were kept before; gives how many are now.
    """
    blocks, logits, scores, marks = stretch
    weights, values, counts, kept_of, expected_of, x = model
    classes = labels.classes
    for i in range(len(marks)):
        if done == kept:
            break
        block, logit = blocks[i], logits[i]
        n, expected = kept_of[block], expected_of[block]
        x[0] = logit + logarithm(t[2], n + 4 << 16) - logarithm(t[2], expected + 262144)
        one, other = bucket_of(x[0]), BUCKETS + bucket_of(logit)
        x[1] = t[1][slot(values, counts, one, middle_of(t, one), 8)]
        x[2] = t[1][slot(values, counts, other, middle_of(t, other - BUCKETS), 8)]
        p = mix(t[0], weights, 0, x, INPUTS)
        bit = code(io, buffer, 1 if marks[i] else 0, p)
        if abs((bit << 16) - p) > DULL:
            learn_mix(weights, 0, x, INPUTS, bit, p, 2)
        learn_slot(values, counts, one, bit, 1000)
        learn_slot(values, counts, other, bit, 1000)
        expected_of[block] = expected + t[0][min(max(logit, -2839), 2839) + 2839]
        if bit:
            kept_of[block] = n + 1
            done += 1
            marks[i] = code_kept_label(io, buffer, marks[i] - 1, scores, i * classes, block * classes, t, labels) + 1
    return done
