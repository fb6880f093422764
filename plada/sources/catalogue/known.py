"""The collections that plada knows by name: what each should hold, how it lies on disk, its splits, its terms.

These are facts; `places`, `datasets` and plada.sources.registry act on them. `figures` says where the counts come from, and
which were not checked against the publisher. Licence notes are reminders, not advice: the publisher's terms count.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_RECALLED = "general knowledge, not checked"
_NO_SPLIT = (
    "none published; plada splits: 20 % test, a fifth of the rest validation, stratified, seed 0 (option seed=N)"
)
_OWN_80_20 = "its own 80/20 of all images; which images is not known (plada: split=paper, the same sizes, another draw)"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDataset:
    """A collection that is known by name."""

    role: str  # reference, target, or both
    about: str
    splits: Mapping[str, int]  # images in each published part that has labels; {"all": n} where there is no split
    classes: int | None
    expects: str  # its form on disk
    split: str  # the official split, and what plada does where there is none
    licence: str
    obtain: str
    figures: str  # where the counts come from
    folders: tuple[
        str, ...
    ] = ()  # folders that the archives or other tools make, tried below datasets/NAME and datasets
    layouts: tuple[str, ...] = ()  # of plada.sources.targets.layouts; every target may also lie as folders or parquet
    reader: str = "plada"
    paper: str = ""  # what the paper (arXiv 2602.23358) did, where it used the set
    paper_split: str = ""  # same, pooled (its own 80/20 of everything) or train-only (the published validation unused)
    also: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # counts of other editions, by what they are
    validation_is_test: bool = False  # test images have no labels; the validation images serve as the test
    built_in: bool = False

    @property
    def images(self) -> int:
        """Images of a reference; of a target, those of all its parts."""
        return self.splits["train"] if self.role == "both" else sum(self.splits.values())


def _medmnist(about: str, splits: Mapping[str, int], classes: int, licence: str, name: str) -> KnownDataset:
    return KnownDataset(
        role="target", about=about, splits=splits, classes=classes, layouts=("medmnist",),
        expects=f"{name}.npz (28 pixels) or {name}_64.npz, _128, _224; with several, option size=64 says which",
        split="train, validation and test in the file", paper="the same test images; the resolution is not known",
        paper_split="same", licence=licence, obtain="medmnist.com (Zenodo), or the medmnist package's download",
        reader="plada (the files that the medmnist package downloads)",
        figures="medmnist's own table (medmnist/info.py)",
    )  # fmt: skip


KNOWN: Mapping[str, KnownDataset] = MappingProxyType({
    "glyphs": KnownDataset(
        role="reference", about="characters drawn with matplotlib's fonts", splits={"all": 20_000}, classes=None,
        expects="nothing: made on the fly; options count=N, seed=N", split="none: a reference", licence="none needed",
        obtain="built in", figures="by definition", built_in=True,
    ),
    "imagenet1k": KnownDataset(
        role="both", about="ImageNet-1K, ILSVRC 2012 (as a reference: its training images)",
        splits={"train": 1_281_167, "test": 50_000}, classes=1000,
        expects="train/WNID/*.JPEG or per-synset tars; as a target also val/WNID/*.JPEG",
        folders=("ILSVRC/Data/CLS-LOC", "ILSVRC2012"), layouts=("train-val",), validation_is_test=True,
        split="train; the 50 000 validation images serve as the test (the 100 000 test images have no labels)",
        paper="reference, 1.2M images", licence="non-commercial research and education, on request; images keep their owners",
        obtain="image-net.org, on request", figures=_RECALLED,
    ),
    "imagenet21k": KnownDataset(
        role="reference", about="ImageNet-21K, fall 2011", splits={"all": 14_197_122}, classes=21_841,
        expects="a folder of per-synset tars (read without unpacking), or WNID/*.JPEG", folders=("fall11_whole",),
        split="none published", paper="reference, 14.2M images",
        licence="non-commercial research and education, on request; images keep their owners",
        obtain="image-net.org, on request (fall 2011 is no longer handed out there)",
        figures="counts as on ImageNet's page of that time, by second hand",
    ),
    "imagenet21k-winter21": KnownDataset(
        role="reference", about="ImageNet-21K, winter 2021: person and offensive synsets removed",
        splits={"all": 13_153_500}, classes=19_167,
        expects="a folder of per-synset tars (read without unpacking), WNID/*.JPEG, or WebDataset shards",
        folders=("winter21_whole", "imagenet-w21-wds", "imagenet-w21-webp-wds"), split="none published",
        also={"timm/imagenet-w21-wds, images below 32 pixels removed": {"all": 13_151_276}},
        licence="non-commercial research and education, on request; images keep their owners",
        obtain="image-net.org, on request; as shards: Hugging Face, timm/imagenet-w21-wds",
        figures="classes and the WebDataset count: timm's data set card; 13 153 500: by second hand",
    ),
    "tiny-imagenet": KnownDataset(
        role="both", about="Tiny-ImageNet-200, 64 pixels (as a reference: its training images)",
        splits={"train": 100_000, "test": 10_000}, classes=200,
        expects="train/WNID/images/*.JPEG, val/images/*.JPEG, val/val_annotations.txt", folders=("tiny-imagenet-200",),
        layouts=("tiny-imagenet", "train-val"), validation_is_test=True,
        split="train; the 10 000 validation images serve as the test (the 10 000 test images have no labels)",
        licence="ImageNet's terms: non-commercial research", obtain="Stanford CS231n", figures=_RECALLED,
    ),
    "digits": KnownDataset(
        role="target", about="handwritten digits of scikit-learn, 8x8",
        splits={"train": 898, "validation": 300, "test": 599}, classes=10, expects="nothing: comes with scikit-learn",
        split="plada's own, fixed: by the image's number", licence="CC BY 4.0 (UCI)", obtain="built in",
        figures="checked when opened", built_in=True,
    ),
    "food101": KnownDataset(
        role="target", about="Food-101, dishes", splits={"train": 75_750, "test": 25_250}, classes=101,
        expects="images/CLASS/*.jpg with meta/train.txt and meta/test.txt", folders=("food-101",), layouts=("food101",),
        validation_is_test=True, split="meta/train.txt, meta/test.txt: 750 and 250 images a class", paper="the same",
        paper_split="same", licence="images belong to their owners (Foodspotting); for scientific use",
        obtain="ETH Zurich, Computer Vision Lab; torchvision's Food101 downloads it; Hugging Face: ethz/food101",
        reader="plada (also what torchvision's Food101 downloads)", figures="torchvision's documentation; licence: " + _RECALLED,
    ),
    "cifar10": KnownDataset(
        role="target", about="CIFAR-10, 32 pixels", splits={"train": 50_000, "test": 10_000}, classes=10,
        expects="the binary version (data_batch_1.bin ..), the python version, or train/CLASS/*, test/CLASS/*",
        folders=("cifar-10-batches-bin", "cifar-10-batches-py"), layouts=("cifar-binary", "cifar-python"),
        split="five training batches, one test batch", paper="the same", paper_split="same",
        licence="none stated; cite Krizhevsky 2009", obtain="University of Toronto, 'binary version'",
        reader="plada; of the python version, which is pickled, nothing is run", figures="torchvision's file list; " + _RECALLED,
    ),
    "cifar100": KnownDataset(
        role="target", about="CIFAR-100 (fine classes), 32 pixels", splits={"train": 50_000, "test": 10_000}, classes=100,
        expects="the binary version (train.bin, test.bin), the python version, or train/CLASS/*, test/CLASS/*",
        folders=("cifar-100-binary", "cifar-100-python"), layouts=("cifar-binary", "cifar-python"), split="train, test",
        licence="none stated; cite Krizhevsky 2009", obtain="University of Toronto, 'binary version'",
        reader="plada; of the python version, which is pickled, nothing is run", figures="torchvision's file list; " + _RECALLED,
    ),
    "caltech101": KnownDataset(
        role="target", about="Caltech-101, objects, without BACKGROUND_Google", splits={"all": 8_677}, classes=101,
        expects="101_ObjectCategories/CLASS/*.jpg", layouts=("caltech101", "classes"),
        folders=("caltech101", "caltech-101", "101_ObjectCategories"), split=_NO_SPLIT, paper=_OWN_80_20 + "; test 1 736",
        paper_split="pooled", licence="CC BY 4.0 (data.caltech.edu)",
        obtain="data.caltech.edu/records/20086; torchvision's Caltech101 downloads it",
        reader="plada (also what torchvision's Caltech101 downloads)",
        figures="8 677: the paper's table; 467 background images left out: " + _RECALLED,
    ),
    "cub200": KnownDataset(
        role="target", about="CUB-200-2011, birds", splits={"train": 5_994, "test": 5_794}, classes=200,
        expects="images/CLASS/*.jpg with images.txt, classes.txt, image_class_labels.txt, train_test_split.txt",
        folders=("CUB_200_2011",), layouts=("cub",), split="train_test_split.txt",
        paper=_OWN_80_20 + "; test 2 358. Its figures are not for the official split", paper_split="pooled",
        licence="non-commercial research and education; images belong to their owners",
        obtain="Caltech Vision Lab (data.caltech.edu)", figures="public descriptions, by second hand; licence: " + _RECALLED,
    ),
    "dtd": KnownDataset(
        role="target", about="DTD, describable textures", splits={"train": 1_880, "validation": 1_880, "test": 1_880},
        classes=47, expects="images/CLASS/*.jpg with labels/train1.txt, val1.txt, test1.txt", folders=("dtd/dtd", "dtd"),
        layouts=("dtd",), split="partition 1 of 10; option partition=2 takes another",
        paper="test 1 880; 3 760 images in all, so one published third is not counted (plada: split=paper leaves the "
        "validation images out)", paper_split="train-only",
        licence="research use; images belong to their owners", obtain="Oxford VGG; torchvision's DTD downloads it",
        reader="plada (also what torchvision's DTD downloads)", figures="the paper's table; licence: " + _RECALLED,
    ),
    "fgvc-aircraft": KnownDataset(
        role="target", about="FGVC-Aircraft, model variants", splits={"train": 3_334, "validation": 3_333, "test": 3_333},
        classes=100, expects="data/images/*.jpg with data/variants.txt and data/images_variant_train.txt, ..._val.txt, ..._test.txt",
        folders=("fgvc-aircraft-2013b",), layouts=("aircraft",), split="train, validation, test of the 2013b release",
        paper="the same test images", paper_split="same", licence="non-commercial research only",
        obtain="Oxford VGG; torchvision's FGVCAircraft downloads it", reader="plada (also what torchvision's FGVCAircraft downloads)",
        figures="10 000 images, 100 variants: torchvision's documentation; the rest: " + _RECALLED,
    ),
    "flowers102": KnownDataset(
        role="target", about="Oxford 102 Flowers", splits={"train": 1_020, "validation": 1_020, "test": 6_149}, classes=102,
        expects="jpg/*.jpg with setid.mat and imagelabels.mat", folders=("flowers-102", "102flowers"), layouts=("flowers102",),
        split="setid.mat: trnid, valid, tstid", paper="the same test images", paper_split="same",
        licence="none stated; images belong to their owners", obtain="Oxford VGG; torchvision's Flowers102 downloads it",
        reader="plada with scipy (also what torchvision's Flowers102 downloads)",
        figures="8 189 and 6 149: the paper's table; the rest: " + _RECALLED,
    ),
    "pets": KnownDataset(
        role="target", about="Oxford-IIIT Pet, cat and dog breeds", splits={"train": 3_680, "test": 3_669}, classes=37,
        expects="images/*.jpg with annotations/trainval.txt and annotations/test.txt", folders=("oxford-iiit-pet",),
        layouts=("pets",), split="annotations/trainval.txt, annotations/test.txt", paper="the same", paper_split="same",
        licence="CC BY-SA 4.0; images belong to their owners", obtain="Oxford VGG; torchvision's OxfordIIITPet downloads it",
        reader="plada (also what torchvision's OxfordIIITPet downloads)", figures="TensorFlow Datasets' catalogue",
    ),
    "places365": KnownDataset(
        role="target", about="Places365-Standard, scenes", splits={"train": 1_803_460, "test": 36_500}, classes=365,
        expects="train/CLASS/*, val/CLASS/* ('easy format'), or data_256, val_256 with the file lists",
        folders=("places365_standard",), layouts=("places365", "train-val"), validation_is_test=True,
        split="train; the 36 500 validation images serve as the test (the 328 500 test images have no labels)",
        paper="the same", paper_split="same", licence="research and education; images belong to their owners",
        obtain="places2.csail.mit.edu; torchvision's Places365 downloads it",
        reader="plada (also what torchvision's Places365 downloads)", figures="the publishers' devkit; licence: " + _RECALLED,
    ),
    "resisc45": KnownDataset(
        role="target", about="NWPU-RESISC45, aerial scenes", splits={"all": 31_500}, classes=45, expects="CLASS/*.jpg",
        folders=("NWPU-RESISC45",), layouts=("classes",), split=_NO_SPLIT, paper=_OWN_80_20 + "; test 6 300",
        paper_split="pooled", licence="unclear: copies state CC BY-NC or CC BY-SA; ask the publishers",
        obtain="Northwestern Polytechnical University; Hugging Face: torchgeo/resisc45", figures="Hugging Face's data set cards",
    ),
    "stl10": KnownDataset(
        role="target", about="STL-10, 96 pixels (the 100 000 unlabelled images are not used)",
        splits={"train": 5_000, "test": 8_000}, classes=10,
        expects="train_X.bin, train_y.bin, test_X.bin, test_y.bin, class_names.txt", folders=("stl10_binary",),
        layouts=("stl10",), split="train, test (the ten folds are not used)", licence="ImageNet's terms: research",
        obtain="Stanford (Adam Coates); torchvision's STL10 downloads it", reader="plada (also what torchvision's STL10 downloads)",
        figures="training images: torchvision's documentation; the rest: " + _RECALLED,
    ),
    "eurosat": KnownDataset(
        role="target", about="EuroSAT (RGB), land use from Sentinel-2, 64 pixels", splits={"all": 27_000}, classes=10,
        expects="CLASS/*.jpg", folders=("2750", "eurosat/2750", "EuroSAT/2750", "EuroSAT_RGB"), layouts=("classes",),
        split=_NO_SPLIT, licence="MIT", obtain="github.com/phelber/EuroSAT; torchvision's EuroSAT downloads it",
        reader="plada (also what torchvision's EuroSAT downloads)", figures="Hugging Face's data set cards",
    ),
    "gtsrb": KnownDataset(
        role="target", about="GTSRB, German traffic signs", splits={"train": 39_209, "test": 12_630}, classes=43,
        expects="GTSRB/Final_Training/Images/CLASS/*.ppm or GTSRB/Training/CLASS/*.ppm, GTSRB/Final_Test/Images/*.ppm, GT-final_test.csv",
        folders=("gtsrb", "GTSRB"), layouts=("gtsrb",), split="Final_Training, Final_Test",
        also={"torchvision's archive GTSRB-Training_fixed": {"train": 26_640, "test": 12_630}},
        licence="none stated; free to use with citation", obtain="benchmark.ini.rub.de; torchvision's GTSRB downloads a smaller training set",
        reader="plada (also what torchvision's GTSRB downloads)", figures="39 200 and 12 600 by a public copy; exact figures: " + _RECALLED,
    ),
    "bloodmnist": _medmnist(
        "BloodMNIST, blood cells", {"train": 11_959, "validation": 1_712, "test": 3_421}, 8, "CC BY 4.0", "bloodmnist"
    ),
    "dermamnist": _medmnist(
        "DermaMNIST, skin lesions (HAM10000)", {"train": 7_007, "validation": 1_003, "test": 2_005}, 7,
        "CC BY-NC 4.0 (its source HAM10000); earlier stated as CC BY 4.0", "dermamnist",
    ),
    "retinamnist": _medmnist(
        "RetinaMNIST, fundus images in five grades", {"train": 1_080, "validation": 120, "test": 400}, 5, "CC BY 4.0", "retinamnist"
    ),
    "nct-crc-he": KnownDataset(
        role="target", about="NCT-CRC-HE-100K, colorectal tissue, 224 pixels", splits={"train": 100_000, "test": 7_180},
        classes=9, expects="NCT-CRC-HE-100K/CLASS/*.tif, CRC-VAL-HE-7K/CLASS/*.tif", layouts=("crc",),
        split="NCT-CRC-HE-100K for training, CRC-VAL-HE-7K (other patients) as the test",
        paper="not known which images were the test", paper_split="", licence="CC BY 4.0",
        obtain="zenodo.org/record/1214456", figures="public descriptions, by second hand; licence: " + _RECALLED,
    ),
})  # fmt: skip
