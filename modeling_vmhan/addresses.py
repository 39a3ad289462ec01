"""Addresses (URLs): what is one, how browsers send it, how messages show it, and which IP addresses are public."""

import ipaddress
import re
import unicodedata
from urllib.parse import quote, unquote_to_bytes

from .words import shortened


__all__ = ["encoded_url", "is_public", "is_url", "shown_url"]

SCHEME = re.compile(r"(?:https?|data|file|ftp|blob):|[A-Za-z][A-Za-z0-9+.-]+://", re.IGNORECASE)
START = re.compile(r"(?:[A-Za-z][\w+.-]*:[/\\]+|(?:https?|file|ftp|blob):)?", re.IGNORECASE)
AUTHORITY = re.compile(r"(\[[^\[\]@]*\]|[^:@\[\]]*)(?::([0-9]{0,9}))?")  # host and port
IGNORED = re.compile("[\xad\u200b\u2060\ufe00-\ufe0f\ufeff]")  # in host names: soft hyphens and their like
BLANK = "".join(map(chr, range(33)))  # what WHATWG strips: C0 controls and the space
SHOWN = 200  # characters of an address in a message
LONGEST_HEAD = 1000  # characters in which the scheme of an address is sought
LONGEST_HOST = 253  # characters, by RFC 1035; one that is percent-encoded takes up to twelve
# WHATWG's path and special-query percent-encode sets, as what stays; non-ASCII becomes %XX of its UTF-8.
IN_PATH, IN_QUERY = "!$%&'()*+,/:;=@[]|", "!$%&()*+,/:;=?@[]\\^`{|}"
# Where `is_global` differs between Pythons, or IPv6 leads to any IPv4 address: protocol assignments, 6to4, Teredo.
NOT_PUBLIC = [
    ipaddress.ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "2001::/23", "2002::/16", "3fff::/20")
]
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
IPV4_INSIDE = [ipaddress.ip_network(text) for text in ("::ffff:0:0/96", "64:ff9b::/96")]  # mapped, NAT64


def is_url(source: object) -> bool:
    """Whether a string is an address and no path: it begins with `SCHEME://`, the scheme of two letters or more, or
    with http:, https:, data:, file:, ftp: or blob:. So `photo:1.png` and `C:/x.png` are paths, as `./data:1.png` is.
    """
    return isinstance(source, str) and SCHEME.match(_stripped(source[:LONGEST_HEAD])) is not None


def encoded_url(url: str) -> str:
    """An http(s) address as browsers send it (https://url.spec.whatwg.org), without its fragment.

    ValueError for what they refuse, and for a user or password in it, which they do not send for an image.
    """
    scheme, _, rest = _stripped(url).partition(":")
    before, mark, query = rest.partition("#")[0].partition("?")
    slashes, authority, path = re.fullmatch("(/*)([^/]*)(.*)", before.replace("\\", "/"), re.DOTALL).groups()
    host, port = (AUTHORITY.fullmatch(authority) or re.match("()()", "")).groups()
    try:
        if scheme.lower() not in ("http", "https") or slashes != "//" or not authority:
            raise ValueError("http:// or https:// with a host; a file's name that looks so as ./NAME")
        if "@" in authority:
            raise ValueError("no user or password in it: fetch the image yourself, and give its bytes")
        if not host or int(port or 0) > 65535:
            raise ValueError("HOST or HOST:PORT after the slashes, with a port up to 65535")
        place = _encoded_host(host) + (f":{int(port)}" if port else "")
        path, query = quote(path or "/", safe=IN_PATH), quote(query, safe=IN_QUERY)
    except UnicodeEncodeError:
        reason = "whole characters, and no half of one (a surrogate)"
    except ValueError as error:
        reason = str(error)
    else:
        return f"{scheme.lower()}://{place}{path}{mark}{query}"
    raise ValueError(f"an image's address: expected {reason}, received {shown_url(url)!r}")


def shown_url(url: str) -> str:
    """An address for a message: without user, password, query and fragment, of which any may be secret.

    Where the address is malformed by what may be a password, everything before its last @ is left out.
    """
    head = _stripped(url[:LONGEST_HEAD])
    if head[:5].lower() == "data:":  # of which there may be megabytes
        return head.partition(",")[0][:SHOWN] + ",..."
    text = _stripped(url)
    start = START.match(text).end()
    scheme, rest = text[:start], text[start:]
    authority = re.match(r"[^/\\?#]*", rest)[0]
    if "@" in authority:
        rest = rest[re.match("[^?#]*@", rest).end() :]
    elif re.fullmatch(r"(\[[\w:.]+\]|[\w.%-]*)(:[0-9]{0,5})?", authority) is None:
        rest = rest.rpartition("@")[2]
    place, hidden = re.fullmatch("([^?#]*)(.*)", rest, re.DOTALL).groups()
    return scheme + shortened(place, SHOWN) + (hidden[:1] + "..." if hidden else "")


def is_public(address: str) -> bool:
    """Whether an IP address can be reached from everywhere, and leads to no IPv4 address that cannot."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if any(parsed in network for network in IPV4_INSIDE):
        parsed = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
    if parsed.is_multicast or (parsed.version == 6 and parsed not in GLOBAL_UNICAST):
        return False
    return parsed.is_global and not any(parsed in network for network in NOT_PUBLIC)


def _stripped(url: str) -> str:
    return re.sub("[\t\n\r]", "", url.strip(BLANK))


def _encoded_host(host: str) -> str:
    """A host in ASCII: names by UTS 46 without its transitional mappings, so that ß stays what it is."""
    if host.startswith("["):
        try:
            return f"[{ipaddress.IPv6Address(host[1:-1].replace('%', ' '))}]"
        except ValueError:
            raise ValueError("an IPv6 address in the brackets, without a zone") from None
    try:
        if len(host) > 12 * LONGEST_HOST:  # before what takes time with its square
            raise ValueError(f"a host of at most {LONGEST_HOST} characters")
        name = unquote_to_bytes(host).decode("utf-8")
        name = IGNORED.sub("", unicodedata.normalize("NFKC", "".join(map(str.lower, name)))).replace("。", ".")
        labels = [part if part.isascii() else f"xn--{part.encode('punycode').decode()}" for part in name.split(".")]
    except UnicodeError:
        labels = [""]
    if not re.fullmatch(r"[\w-][\w.-]*", ".".join(labels), re.ASCII):
        raise ValueError("a host of letters, digits, dots and hyphens")
    return ".".join(labels)
