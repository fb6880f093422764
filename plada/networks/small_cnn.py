"""A small convolutional network for small images: the demo's student, and its fine-tuned teacher."""

import torch
from torch import nn


class SmallCnn(nn.Module):
    """Five 3 x 3 convolutions in three stages, global pooling, one linear layer.

    Takes normalised floats [n, channels, height, width], height and width 8 or more. The pipeline feeds RGB, hence
    three channels by default; grey images arrive as three equal channels. 0.29 million parameters at width 32.
    """

    def __init__(self, classes: int, channels: int = 3, width: int = 32, dropout: float = 0.1) -> None:
        super().__init__()

        def unit(inputs: int, outputs: int) -> list[nn.Module]:
            return [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]

        self.features = nn.Sequential(
            *unit(channels, width),
            nn.MaxPool2d(2),
            *unit(width, 2 * width),
            *unit(2 * width, 2 * width),
            nn.MaxPool2d(2),
            *unit(2 * width, 4 * width),
            *unit(4 * width, 4 * width),
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * width, classes)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Penultimate features [n, 4 * width]: the mean over all places."""
        # Each image is standardised first: how much ink or light it has says nothing about its class here, and the
        # reference and the target differ in just that.
        deviation, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True)
        maps: torch.Tensor = self.features((images - mean) / (deviation + 0.1))
        return maps.mean(dim=(2, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [n, classes]."""
        logits: torch.Tensor = self.head(self.dropout(self.embed(images)))
        return logits
