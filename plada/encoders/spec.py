"""Which encoder is meant: a network, the tag of its weights, and how it computes."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

from plada.encoders.known import KNOWN_ENCODERS
from plada.networks.network import NetworkSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec(NetworkSpec):
    """Which encoder is meant, and how it starts; a NetworkSpec with three more fields.

    The `name` is `gradients` (built in, no weights), `timm:ARCH`, `timm:ARCH.TAG`, `open_clip:ARCH/TAG`,
    `open_clip:local-dir:PATH` or a short name (`plada.known_encoders`). All fields are plain values, so that other processes can load the same encoder.

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

    Examples:
        >>> import plada
        >>> plada.EncoderSpec(name="clip", weights="~/clip.safetensors").weights_file.name
        'clip.safetensors'
    """

    tag: str | None = None
    precision: str | None = None
    compiled: bool = False

    @property
    def weights_file(self) -> Path | None:
        """The weights as a path, with `~` expanded."""
        return Path(self.weights).expanduser() if self.weights else None


def encoder_spec(encoder: str | EncoderSpec) -> EncoderSpec:
    """The spec that a name stands for. A short name becomes the full one, at the size that it stands for."""
    spec = EncoderSpec(name=encoder) if isinstance(encoder, str) else encoder
    known = KNOWN_ENCODERS.get(spec.name)
    if known is None:
        return spec
    return replace(spec, name=known.name, image_size=spec.image_size or known.image_size)


def overlaid(base: EncoderSpec, given: EncoderSpec) -> EncoderSpec:
    """The spec `base` with what `given` says beyond the defaults."""
    plain = EncoderSpec(name="")
    said = {each.name: getattr(given, each.name) for each in fields(given)}
    return replace(base, **{name: value for name, value in said.items() if value != getattr(plain, name)})
