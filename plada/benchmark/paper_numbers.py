"""The paper's own numbers (arXiv 2602.23358 v1, tables 1 to 5), beside which ours are printed.

Accuracies in % on the target's test images; reference ImageNet-21K (14 197 122 images) unless said, teacher ConvNeXt-V2-Tiny, student
ResNet-18. KB are 1024 bytes.
"""

from collections.abc import Mapping
from types import MappingProxyType

# Table 1: lowest energy, by keep rate.
KEEPS = (0.01, 0.05, 0.10, 0.25, 0.50, 1.0)
KEEP_RATE: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "Caltech-101": (79.84, 88.94, 90.21, 90.73, 92.45, 92.74),
        "CIFAR-10": (63.31, 85.31, 88.12, 91.68, 92.62, 86.13),
        "CUB-200": (82.49, 82.36, 82.44, 81.34, 81.09, 74.94),
        "DTD": (66.65, 70.16, 70.69, 70.8, 68.83, 68.14),
        "FGVC-Aircraft": (53.62, 45.51, 46.41, 45.87, 43.53, 32.16),
        "Food-101": (75.5, 76.18, 76.91, 76.72, 75.27, 73.43),
        "Oxford-Flowers": (96.93, 98.41, 98.5, 98.19, 98.06, 96.76),
        "Oxford-IIIT-Pet": (90.95, 91.03, 90.81, 90.05, 89.48, 87.74),
        "Places365": (23.39, 34.89, 40.05, 45.82, 48.66, 46.95),
        "RESISC45": (58.16, 67.81, 74.37, 80.62, 76.79, 31.02),
    }
)
KEEP_RATE_MEANS = {
    "ImageNet-21K": (69.08, 74.06, 75.85, 77.18, 76.68, 69.00),
    "ImageNet-1K": (44.59, 57.04, 60.24, 63.55, 65.23, 65.72),
}
# Table 2: 1 % of the reference, the best of table 3 by test accuracy, against pictures of the target (JPEG Q30, Zstd 19).
IMAGES = ("random, 100", "k-centre, 100", "random, 500", "k-centre, 500")
BASELINES: Mapping[str, tuple[float | None, ...]] = MappingProxyType(
    {
        "Caltech-101": (86.69, 32.78, 34.16, 47.98, 51.04),
        "CIFAR-10": (76.75, 28.66, 19.33, 31.29, 27.2),
        "CUB-200": (82.49, 4.58, 3.69, 9.67, 7.55),
        "DTD": (68.09, 19.04, 14.73, 36.49, 28.35),
        "FGVC-Aircraft": (53.62, 2.76, 2.1, 4.62, 4.59),
        "Food-101": (75.5, 3.95, 3.2, 10.26, 5.89),
        "Oxford-Flowers": (97.53, 36.39, 33.74, 34.2, 25.78),
        "Oxford-IIIT-Pet": (90.98, 11.97, 15.91, 61.6, 53.61),
        "Places365": (31.59, 1.17, None, 3.21, 2.91),
        "RESISC45": (75.65, 20.81, 11.16, 29.98, 19.57),
    }
)
BASELINE_KB = (147.3, 356.4, 376.9, 1818.0, 1907.7)
# Table 3 (and 5, below): rules at 1 %.
RULES = ("energy", "high-energy", "paper", "paper-0.2")
RULES_SIDE_BY_SIDE: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "Caltech-101": (79.84, 74.42, 86.69, 86.29),
        "CIFAR-10": (63.31, 54.8, 76.75, 74.62),
        "CUB-200": (82.49, 6.19, 81.21, 80.53),
        "DTD": (66.65, 26.12, 66.7, 68.09),
        "FGVC-Aircraft": (53.62, 3.45, 43.23, 44.58),
        "Food-101": (75.5, 6.28, 70.91, 71.66),
        "Oxford-Flowers": (96.93, 9.95, 97.53, 97.35),
        "Oxford-IIIT-Pet": (90.95, 18.67, 90.98, 90.87),
        "Places365": (23.39, 18.04, 30.26, 31.59),
        "RESISC45": (58.16, 2.06, 72.81, 75.65),
    }
)
FAR_OFF: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "BloodMNIST": (18.24, 59.28, 47.0, 41.45),
        "DermaMNIST": (53.32, 67.68, 47.58, 38.05),
        "RetinaMNIST": (56.5, 56.75, 55.25, 55.0),
        "NCT-CRC-HE-100K": (18.69, 43.51, 32.57, 32.37),
    }
)
# Table 4: ranges of payload sizes over data sets and filters.
SIZES: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "0.5%": ("0.41-1.83 MB", "77-305 KB", "45-109 KB"),
        "1%": ("0.81-1.96 MB", "151-396 KB", "85-206 KB"),
        "5%": ("3.05 MB", "0.57-1.10 MB", "0.40-0.88 MB"),
        "10%": ("4.40-8.12 MB", "0.88-1.95 MB", "0.67-1.58 MB"),
        "25%": ("8.46 MB", "1.65-4.34 MB", "1.21-3.47 MB"),
        "50%": ("15.23-40.62 MB", "2.49-7.88 MB", "1.87-6.42 MB"),
        "100%": ("27.08 MB", "2.29-12.83 MB", "1.77-10.50 MB"),
    }
)
TEACHERS: Mapping[str, float] = MappingProxyType(
    {
        "Caltech-101": 98.39,
        "CIFAR-10": 98.15,
        "CUB-200": 97.71,
        "DTD": 77.5,
        "FGVC-Aircraft": 86.53,
        "Food-101": 90.02,
        "Oxford-Flowers": 99.04,
        "Oxford-IIIT-Pet": 93.4,
        "Places365": 55.45,
        "RESISC45": 96.84,
        "BloodMNIST": 99.09,
        "DermaMNIST": 89.63,
        "RetinaMNIST": 70.0,
        "NCT-CRC-HE-100K": 99.93,
    }
)
# Our targets by the paper's sets of the same kind: the set itself under its registered name, or a part or relative of it.
KIN: Mapping[str, str] = MappingProxyType(
    {
        "caltech101": "Caltech-101",
        "caltech20": "Caltech-101",
        "cifar10": "CIFAR-10",
        "cub200": "CUB-200",
        "dtd": "DTD",
        "dtd10": "DTD",
        "fgvc-aircraft": "FGVC-Aircraft",
        "food101": "Food-101",
        "flowers102": "Oxford-Flowers",
        "pets": "Oxford-IIIT-Pet",
        "cats_dogs": "Oxford-IIIT-Pet",
        "places365": "Places365",
        "resisc45": "RESISC45",
        "rsscn7_satellite": "RESISC45",
    }
)
# Targets known to be far from any collection of photographs.
MEDICAL = frozenset({"bloodmnist", "dermamnist", "retinamnist", "nct-crc-he", "chest_xray"})
