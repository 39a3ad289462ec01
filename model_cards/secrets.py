"""What people will read (messages, cards, records of runs) without the secrets that were typed into it."""

import re
from collections.abc import Mapping
from typing import Any

from modeling_vmhan.addresses import shown_url


__all__ = ["is_secret", "without_secrets"]

# An address goes on until a blank or the next address ("openai:a@http://x,b@http://y"); a password may hold quotes.
SCHEME = r"(?:[A-Za-z][A-Za-z0-9+.-]{1,15}:(?://|\\\\)|https?:/)"  # of a path, which has one slash of several
NEXT = rf"(?:,[^\s,@]{{0,200}}@|[\"'(\[<>,;|]){SCHEME}"
ADDRESS = re.compile(rf"{SCHEME}(?:(?!{NEXT})\S)+")
AFTER = "\"'`)]},.;:>"  # characters that at the end are no part of an address
NAME = r"(?:[\w-]*[_-])?(?:password|passwd|secret|api[_-]?key|authorization|credentials?)|[\w-]+[_-]token"
# A hyphen does as well as an underscore, and argparse takes the beginning of a flag: --hub_t is --hub_token.
SECRET_NAME = re.compile(rf"-*({NAME}|token|hub[_-]t\w*)", re.IGNORECASE)
# name=value, and "name": "value" as in JSON or a Python dict
NAMED = re.compile(
    rf"""((?<![\w-])(?:{NAME})=|(["'])(?:{NAME})\2\s*:\s*(?=["']))(?:(["'])(?:(?!\3)[^\\]|\\.)*\3|[^\s,;&]+)""",
    re.IGNORECASE,
)


def is_secret(name: str) -> bool:
    """Whether a flag or field of this name holds what no file may have: a token, a password, a key.

    Example:
        >>> [is_secret(name) for name in ("hub_token", "--hub-t", "api_key", "tokens_per_batch")]
        [True, True, True, False]
    """
    return SECRET_NAME.fullmatch(name) is not None


def without_secrets(value: Any) -> Any:
    """A text, or all texts of a record, with each address as `modeling_vmhan.addresses.shown_url` shows it, and "..."
    for what stands under a name such as api_key, password or hub_token.

    Example:
        >>> without_secrets({"spec": "openai:m@http://ann:pw@host/v1?key=1", "api_key": "sk-1", "max_tokens": 5})
        {'spec': 'openai:m@http://host/v1?...', 'api_key': '...', 'max_tokens': 5}
    """
    if isinstance(value, Mapping):
        return {
            name: "..." if isinstance(inner, str) and is_secret(str(name)) else without_secrets(inner)
            for name, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [without_secrets(inner) for inner in value]
    return NAMED.sub(r"\1\3...\3", ADDRESS.sub(_shown, value)) if isinstance(value, str) else value


def _shown(match: re.Match) -> str:
    address = match[0]
    if not re.search(r"[@?#]", address):
        return address
    end = len(address.rstrip(AFTER))
    return shown_url(address[:end]) + address[end:]
