"""Which encoder is meant: a network, the tag of its weights, and how it computes."""

from dataclasses import dataclass
from pathlib import Path

from plada.networks.network import NetworkSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec(NetworkSpec):
    """Which encoder is meant, and how it starts; a NetworkSpec with three more fields.

    The `name` is `gradients` (built in, no weights), `timm:ARCH`, `timm:ARCH.TAG`, `open_clip:ARCH/TAG` or
    `open_clip:local-dir:PATH`. All fields are plain values, so that other processes can load the same encoder.

    Attributes:
        name: The encoder, as above. `plada.index` takes an empty name as `gradients` for built-in references.
        weights: A safetensors file. Without it, `pretrained` or the tag "random" is needed, except for `gradients` and a
            local-dir.
        pretrained: Let timm or open_clip download the weights of the tag.
        model_args: Arguments of the network, and settings of preprocessing (docs/encoders.md).
        image_size: Side of the square that the network sees, in pixels; None for the weights' own.
        tag: The tag that the weights file stands for, if the name does not say it. "random" asks for random weights, the
            same in every process.
        precision: fp32, or fp16 or bf16 by autocast. None: fp32 on a CPU, fp16 on a GPU.
        compiled: Compile the network first, with torch.compile.
    """

    tag: str | None = None
    precision: str | None = None
    compiled: bool = False

    @property
    def weights_file(self) -> Path | None:
        """The weights as a path, with `~` expanded."""
        return Path(self.weights).expanduser() if self.weights else None


def encoder_spec(encoder: str | EncoderSpec) -> EncoderSpec:
    """The spec that a bare name stands for; a spec is returned as it is."""
    return EncoderSpec(name=encoder) if isinstance(encoder, str) else encoder
