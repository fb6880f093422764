"""A payload as a data set of Hugging Face's `datasets`."""

from collections.abc import Iterator
from typing import Any

from plada.common.packages import require
from plada.trainer.dataset.payload_dataset import PayloadDataset


def to_hugging_face(dataset: PayloadDataset) -> Any:
    """A datasets.Dataset with the columns image, label (ClassLabel), position and key; images as they are stored. Raises
    MissingExtra: the package `datasets` is not installed. Others as `stored`."""
    require("datasets", extra="hf", purpose="payload.to_hf")
    import datasets

    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=dataset.classes),
            "position": datasets.Value("int64"),
            "key": datasets.Value("string"),
        }
    )
    return datasets.Dataset.from_generator(_rows, features=features, gen_kwargs={"dataset": dataset})


def _rows(dataset: PayloadDataset) -> Iterator[dict[str, Any]]:
    for position, (data, label, key) in zip(dataset.positions.tolist(), dataset.stored(), strict=True):
        yield {"image": {"bytes": data, "path": None}, "label": label, "position": position, "key": key}
