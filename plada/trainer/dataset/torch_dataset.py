"""A payload as a torch data set. Apart from payload_dataset.py, since the class statement needs torch."""

from typing import Any

from torch.utils.data import Dataset

from plada.trainer.dataset.payload_dataset import PayloadDataset


class TorchPayloadDataset(PayloadDataset, Dataset[tuple[Any, Any]]):
    """A PayloadDataset that libraries know for a torch.utils.data.Dataset."""
