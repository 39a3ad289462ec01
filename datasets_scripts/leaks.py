"""Marks a data set that gives its labels away, and reads the mark back, so that no number made from it looks honest.

The mark is one line of `DatasetInfo.description`. It survives select, map, the cache and streaming; in a published
folder it lives in the card, as `description` under `dataset_info` of the README's YAML, from where `load_dataset` puts
it back into the info. The names of configs in LEAKY count as well, marked or not.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import DatasetCard


__all__ = ["LEAKY", "OFFICIAL", "ORDER_BLIND", "PHRASE_TEXT"]
__all__ += ["info_of", "leak_record", "leak_status", "mark_card", "mark_leaky", "mark_protocol", "protocol_of"]

logger = logging.getLogger(__name__)

MARK, PROTOCOL = "leaky: ", "protocol: "

# {name of a config: why whatever is built with it gives labels away}
LEAKY = {
    "mnre_published_objects": (
        "mre_*_dict.pth: objects keyed by line and made with the gold entity types; their number alone tells None "
        "from a relation"
    )
}
PHRASE_TEXT = (
    "phrase_text_*.json: gold entity types appended to the phrases of positive pairs only; the types alone, with no "
    "text and no image, beat every published system"
)

# How the pairs stand. It is a mark of another kind than "leaky": published numbers of MNRE are measured by the
# official protocol, and nothing is refused for it.
OFFICIAL = "official: head/tail order gives the label away"
ORDER_BLIND = "order-blind: pairs stand in text order, labels have a direction"
PROTOCOLS = {"mnre": OFFICIAL, "mnre_v1": OFFICIAL, "mnre_published_objects": OFFICIAL}  # by config, marked or not


def mark_protocol(info: datasets.DatasetInfo, protocol: str) -> None:
    """Say in `info.description` how the pairs stand: OFFICIAL or ORDER_BLIND."""
    lines = [line for line in (info.description or "").splitlines() if not line.startswith(PROTOCOL)]
    info.description = "\n".join([*lines, PROTOCOL + protocol])


def protocol_of(source: Any) -> str | None:
    """OFFICIAL, ORDER_BLIND, or None where nothing is known of the order, for what `leak_status` takes."""
    if isinstance(source, Mapping):
        return next(filter(None, map(protocol_of, source.values())), None)
    info = info_of(source)
    said = [line.removeprefix(PROTOCOL) for line in (info.description or "").splitlines() if line.startswith(PROTOCOL)]
    return said[0] if said else PROTOCOLS.get(info.config_name)


def mark_leaky(info: datasets.DatasetInfo, reasons: Iterable[str]) -> None:
    """Add `reasons` to the mark in `info.description`, each once; nothing else of the description changes."""
    lines = [line for line in (info.description or "").splitlines() if not line.startswith(MARK)]
    marked = list(dict.fromkeys([*_marked(info), *reasons]))
    info.description = "\n".join([*lines, MARK + json.dumps(marked)])


def leak_status(source: Any) -> list[str]:
    """Why `source`, a data set, its splits in a dict, or its info, gives labels away; [] if nothing is known to.

    ValueError if `source` is none of these, or its mark was damaged.
    """
    if isinstance(source, Mapping):
        return list(dict.fromkeys(reason for split in source.values() for reason in leak_status(split)))
    info = info_of(source)
    by_name = [LEAKY[info.config_name]] if info.config_name in LEAKY else []
    return list(dict.fromkeys([*by_name, *_marked(info)]))


def leak_record(source: Any) -> dict[str, Any]:
    """What a metrics file says of the data: {"leaky": False}, or True with "leak_reasons" and a loud warning; and the
    "protocol", where it is known.
    """
    reasons, protocol = leak_status(source), protocol_of(source)
    of_order = {} if protocol is None else {"protocol": protocol}
    if not reasons:
        return {"leaky": False, **of_order}
    logger.warning(
        "THE DATA GIVES ITS LABELS AWAY; no score on it measures relation extraction:\n%s", "\n".join(reasons)
    )
    return {"leaky": True, "leak_reasons": reasons, **of_order}


def mark_card(path: str | Path, config_name: str, reasons: Iterable[str]) -> None:
    """Put the mark into the card (README.md) of a published folder; ValueError if it has no such config. Call it last:
    `push_to_hub` and `DatasetInfosDict` rewrite a config's `dataset_info` without its description.
    """
    card = DatasetCard.load(path)
    entries = card.data.get("dataset_info") or []
    entries = entries if isinstance(entries, list) else [entries]
    entry = next((entry for entry in entries if entry.get("config_name", "default") == config_name), None)
    if entry is None:
        names = [entry.get("config_name", "default") for entry in entries]
        raise ValueError(f"config_name: expected one of {names} (dataset_info of {path}), received {config_name!r}")
    info = datasets.DatasetInfo(description=entry.get("description") or "")
    mark_leaky(info, reasons)
    entry["description"] = info.description
    card.data["dataset_info"] = entries
    card.save(path)


def info_of(source: Any) -> datasets.DatasetInfo:
    """The info of a data set, or what is one itself; else a ValueError."""
    info = source if isinstance(source, datasets.DatasetInfo) else getattr(source, "info", None)
    if not isinstance(info, datasets.DatasetInfo):
        raise ValueError(
            f"source: expected a data set, a dict of them or a DatasetInfo, received {type(source).__name__}"
        )
    return info


def _marked(info: datasets.DatasetInfo) -> list[str]:
    lines = (info.description or "").splitlines()
    marks = [line.removeprefix(MARK) for line in lines if line.startswith(MARK)]
    try:
        return list(json.loads(marks[0])) if marks else []
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(
            f"description: expected {MARK!r} and a JSON list of reasons, received {marks[0]!r}"
        ) from error
