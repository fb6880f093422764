"""The paper's own numbers (arXiv 2602.23358 v1, tables 1 to 5), beside which ours are printed. They stand in paper_numbers.json.

Accuracies in % on the target's test images; reference ImageNet-21K (14 197 122 images) unless said, teacher ConvNeXt-V2-Tiny, student
ResNet-18. KB are 1024 bytes.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files

_NUMBERS = json.loads(files("plada.benchmark").joinpath("paper_numbers.json").read_text("utf-8"))
_Row = Sequence[float]

# Table 1: lowest energy, by keep rate.
KEEPS: _Row = _NUMBERS["keeps"]
KEEP_RATE: Mapping[str, _Row] = _NUMBERS["keep_rate"]
KEEP_RATE_MEANS: Mapping[str, _Row] = _NUMBERS["keep_rate_means"]
# Table 2: 1 % of the reference, the best of table 3 by test accuracy, against pictures of the target (JPEG Q30, Zstd 19).
IMAGES: Sequence[str] = _NUMBERS["images"]
BASELINES: Mapping[str, Sequence[float | None]] = _NUMBERS["baselines"]
BASELINE_KB: _Row = _NUMBERS["baseline_kb"]
# Table 3 (and 5, below): rules at 1 %.
RULES: Sequence[str] = _NUMBERS["rules"]
RULES_SIDE_BY_SIDE: Mapping[str, _Row] = _NUMBERS["rules_side_by_side"]
FAR_OFF: Mapping[str, _Row] = _NUMBERS["far_off"]
# Table 4: ranges of payload sizes over data sets and filters: raw, Huffman, Zstd.
SIZES: Mapping[str, Sequence[str]] = _NUMBERS["sizes"]
TEACHERS: Mapping[str, float] = _NUMBERS["teachers"]
# Our targets by the paper's sets of the same kind: the set itself under its registered name, or a part or relative of it.
KIN: Mapping[str, str] = _NUMBERS["kin"]
# Targets known to be far from any collection of photographs.
MEDICAL = frozenset(_NUMBERS["medical"])
