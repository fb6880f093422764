"""Which arguments may reach an architecture. They come from strangers too: out of a model's card or an index.json.

timm.create_model takes more than shapes: `checkpoint_path` opens a file, `pretrained_cfg` names an address, `cache_dir` a
folder to write to. A name that is not in this list is therefore refused, whoever gave it.
"""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

SHAPE_ARGUMENTS = frozenset(
    {
        # the head, and what is dropped in training
        "num_classes", "global_pool", "drop_rate", "drop_path_rate", "drop_block_rate", "proj_drop_rate", "attn_drop_rate",
        "pos_drop_rate", "patch_drop_rate", "head_hidden_size", "head_init_scale", "head_norm_first",
        # the input
        "in_chans", "img_size", "patch_size", "dynamic_img_size", "dynamic_img_pad", "strict_img_size", "output_stride",
        "pad_type", "stem_type", "stem_size", "stem_width", "stem_chs", "fix_stem", "window_size", "window_ratio",
        # width and depth
        "embed_dim", "embed_dims", "depth", "depths", "dims", "layers", "channels", "widths", "num_heads", "mlp_ratio",
        "mlp_ratios", "base_width", "cardinality", "channel_multiplier", "num_features", "head_dim", "kernel_sizes",
        # kinds of layers
        "act_layer", "norm_layer", "norm_eps", "bn_eps", "bn_momentum", "qkv_bias", "qk_norm", "proj_bias", "conv_bias",
        "conv_mlp", "use_grn", "init_values", "ls_init_value", "layer_scale_init_value", "class_token", "reg_tokens",
        "no_embed_class", "pos_embed", "use_abs_pos_emb", "pre_norm", "fc_norm", "final_norm", "weight_init",
        "zero_init_last", "avg_down", "down_kernel_size", "block_reduce_first", "replace_stem_pool",
    }
)  # fmt: skip
# What a timm encoder takes besides: how its images are prepared.
PREPARATION = frozenset({"mean", "std", "interpolation", "crop_mode", "crop_pct", "resize_mode", "quick_gelu"})
CHANNELS = 3  # of all images
_MAX_NUMBER = 1 << 16  # no side, width or depth of a network comes near it
_MAX_LENGTH = 64


def refused_argument(arguments: Any, *, besides: Collection[str] = ()) -> str:
    """Why one of the arguments may not reach a network, in words; empty where all may. `besides` are further names."""
    if not isinstance(arguments, Mapping):
        return f"its arguments are {type(arguments).__name__}, expected names with values"
    for name, value in arguments.items():
        if name not in SHAPE_ARGUMENTS and name not in besides:
            return f"argument '{name}' is not one that shapes a network, and no other is passed on (list: docs/encoders.md)"
        if name == "in_chans" and value != CHANNELS:
            return f"in_chans={str(value)[:40]}: images have {CHANNELS} channels, grey ones {CHANNELS} equal ones"
        if not _is_plain(value):
            return (
                f"argument {name}={str(value)[:40]!r}: expected a word, true or false, a number of at most {_MAX_NUMBER}, or a "
                f"list of at most {_MAX_LENGTH} of these"
            )
    return ""


def _is_plain(value: Any, depth: int = 0) -> bool:
    if isinstance(value, bool) or value is None:
        return True
    if isinstance(value, (int, float)):
        return abs(value) <= _MAX_NUMBER and math.isfinite(value)
    if isinstance(value, str):
        return len(value) <= _MAX_LENGTH and re.fullmatch(r"[\w.-]*", value, re.ASCII) is not None
    if isinstance(value, (list, tuple)):
        return depth < 2 and len(value) <= _MAX_LENGTH and all(_is_plain(part, depth + 1) for part in value)
    return False
