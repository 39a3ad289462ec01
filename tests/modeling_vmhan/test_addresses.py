"""What is an address, how it is sent (as node's `URL` gives it) and shown, and which IP addresses are public."""

from pathlib import Path

import pytest

from modeling_vmhan.addresses import encoded_url, is_public, is_url, shown_url


@pytest.mark.parametrize(
    "source",
    ["http://h/x.png", " \n https://h/x", "HTTP:\\\\h\\x", "ht\ntp://h/x", "http:h/x", "s3://bucket/x.png", "data:,x",
     "DATA:image/png;base64,AA", "file:///etc/hostname", "FILE:/etc/hostname", "file:x.png", "blob:http://h/1"],
)  # fmt: skip
def test_addresses(source):
    assert is_url(source)


@pytest.mark.parametrize(
    "path",
    ["photo:1.png", "a:b.png", "photo.jpg", "C:\\photos\\x.png", "C:/photos/x.png", "C://x.png",
     "2024-01-01 10:30.jpg",
     "Ann: at home.png", "/data/a:b.jpg", "./data:1.png", "./http://h/x", "//h/x.png", "a/http://h", "12:30://x", "",
     "httpx:1.png", "http", Path("data:1.png"), b"file:", b"http://h/x", 3, None],
)  # fmt: skip
def test_paths_are_no_addresses(path):
    assert not is_url(path)


ENCODED = {
    "http://h/Málaga.png": "http://h/M%C3%A1laga.png",
    "http://h/a b/c\u00a0d.png": "http://h/a%20b/c%C2%A0d.png",
    "http://h/Ma\u0301laga/日本/😀.png": "http://h/Ma%CC%81laga/%E6%97%A5%E6%9C%AC/%F0%9F%98%80.png",
    "http://h/%20%C3%A9%2f%zz%": "http://h/%20%C3%A9%2f%zz%",  # what is encoded stays, and so does what only looks so
    "http://h/[1](2)+3&'=;,$!~*@:|.png": "http://h/[1](2)+3&'=;,$!~*@:|.png",
    'http://h/"<>`{}.png': "http://h/%22%3C%3E%60%7B%7D.png",
    "http://h/a\\b\\c.png": "http://h/a/b/c.png",
    "http:\\\\h\\x.png": "http://h/x.png",
    "http://h/x.png?q=a b&c=é'\"\\^`{|}#top": "http://h/x.png?q=a%20b&c=%C3%A9%27%22\\^`{|}",
    "http://h/x?y?z#a#b": "http://h/x?y?z",
    "http://h/x#a?b": "http://h/x",
    "http://h/x?": "http://h/x?",
    "http://h": "http://h/",
    "http://h?x=/": "http://h/?x=/",
    "http://h#x": "http://h/",
    " \t\n http://h/a\tb\r\nc.png \x00 ": "http://h/abc.png",
    "ht\ntps://h\t/x": "https://h/x",
    "HTTP://EXAMPLE.org:8080/X": "http://example.org:8080/X",
    "http://h:/x": "http://h/x",
    "http://h:0080/x": "http://h:80/x",
    "http://h//x/%2e%2e//y": "http://h//x/%2e%2e//y",
    "https://münchen.de/": "https://xn--mnchen-3ya.de/",
    "https://mu\u0308nchen.de/": "https://xn--mnchen-3ya.de/",
    "https://MÜNCHEN.de/": "https://xn--mnchen-3ya.de/",
    "https://straße.de/": "https://xn--strae-oqa.de/",  # Python's idna would ask strasse.de
    "https://ΟΔΟΣ.gr/": "https://xn--pxavbq.gr/",
    "https://例え。テスト/": "https://xn--r8jz45g.xn--zckzah/",
    "https://❤\ufe0f.ws/": "https://xn--qei.ws/",
    "https://ｅｘａｍｐｌｅ．com/": "https://example.com/",
    "https://ex%61mple.com/": "https://example.com/",
    "https://m%C3%BCnchen.de/": "https://xn--mnchen-3ya.de/",
    "https://soft\u00adhyphen.de/": "https://softhyphen.de/",
    "http://a_b.c-d.e./": "http://a_b.c-d.e./",
    "http://[2001:DB8:0::1]:80/x": "http://[2001:db8::1]:80/x",
    "http://[::ffff:1.2.3.4]/": "http://[::ffff:102:304]/",
    "http://h\\@10.0.0.1/x": "http://h/@10.0.0.1/x",  # a browser's host is h
    "http://h/x\x01\x7f": "http://h/x%01%7F",
}


@pytest.mark.parametrize(("url", "sent"), ENCODED.items(), ids=map(ascii, ENCODED))
def test_an_address_is_encoded_as_browsers_do(url, sent):
    assert encoded_url(url) == sent and encoded_url(sent) == sent
    assert sent.isascii() and is_url(url)


@pytest.mark.parametrize(
    ("url", "match"),
    [
        *((url, "http:// or https:// with a host") for url in (
            "http://", "https:///x.png", "http:h/x", "http:/h/x", "ftp://h/x", "file:///x", "data:,x", "h/x", "",
        )),
        *((url, "a host of letters") for url in (
            "http://a b/", "http://a%00b/", "http://a%2fb/", "http://a／b/", "http://a<b/", "http://%ff/", "http://./",
            "http://a^b/", "http://℀.com/", "http://a|b/", "http://a%25b/", "http://\u00a0/",
        )),
        *((url, "HOST or HOST:PORT .*65535") for url in (
            "http://:80/", "http://h:x/", "http://h:65536/", "http://h:-1/", "http://h:80:80/", "http://::1/",
            "http://[::1/", "http://::1]/", "http://[::1]x/", "http://h:" + "9" * 5000, "http://h:８０/",
        )),
        *((url, "at most 253 characters") for url in (  # at once
            "http://" + "é." * 100_000, "http://" + "é" * 100_000 + "/", "http://" + "a" * 1_000_000,
        )),
        *((url, "an IPv6 address in the brackets") for url in (
            "http://[]/", "http://[::1%25lo]/", "http://[::1%lo]/", "http://[v1.x]/", "http://[1.2.3.4]/", "http://[:]/",
        )),
        *((url, "no user or password") for url in ("http://u:p@h/x", "http://u@h/x", "http://:p@h/", "http://@h/")),
        *((url, "half of one") for url in ("http://h/\ud83d", "http://h/?\udc80")),
        ("http://\ud83d/", "a host of letters"),
    ],
)  # fmt: skip
def test_what_browsers_refuse_is_an_error_that_names_it(url, match):
    with pytest.raises(ValueError, match=match) as caught:
        encoded_url(url)
    assert repr(shown_url(url)) in str(caught.value)


SHOWN = {
    "http://h:80/a/x.png": "http://h:80/a/x.png",
    "http://h/x.png?X-Amz-Signature=secret&token=secret": "http://h/x.png?...",
    "http://h/x.png#secret": "http://h/x.png#...",
    "http://h?secret": "http://h?...",
    "http://ann:secret@h/x": "http://h/x",
    "http://secret@h/x?secret": "http://h/x?...",
    "http://:secret@h": "http://h",
    "HTTPS://ann:secret@[::1]:80/x": "HTTPS://[::1]:80/x",
    "http://ann:sec@ret@h/x": "http://h/x",
    "http://ann:sec@r/et@h/x": "http://h/x",
    "http://ann:sec/ret@h/x?secret": "http://h/x?...",
    "http://ann:sec?ret@h/x?secret": "http://h/x?...",
    "http://ann:sec#ret@h/x#secret": "http://h/x#...",
    "http://ann:sec ret'\"@h/x": "http://h/x",
    "http://ann:123456/secret@h/x": "http://h/x",
    "http://sec!/ret@h/x": "http://h/x",
    "http:\\\\ann:secret@h\\x": "http:\\\\h\\x",
    "http:ann:secret@h/x": "http:h/x",
    "ht\ntp://ann:sec\nret@h/x": "http://h/x",
    "  http://ann:secret@h/x": "http://h/x",
    "ray://ann:secret@h:10001": "ray://h:10001",
    "ann:secret@h:8000/v1": "h:8000/v1",
    "http://h/logo@2x.png": "http://h/logo@2x.png",
    "http://h:80/@ann/x.png?secret": "http://h:80/@ann/x.png?...",
    "http://h/x.png?mail=secret@h": "http://h/x.png?...",
    "file:///etc/hostname": "file:///etc/hostname",
    "http://ann:secret@h/" + "x" * 999: "http://h/" + "x" * 198 + "...",
}


@pytest.mark.parametrize(("url", "shown"), SHOWN.items())
def test_an_address_is_shown_without_what_may_be_secret(url, shown):
    assert shown_url(url) == shown and "sec" not in shown


PUBLIC = [
    "8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "100.63.0.1", "192.0.1.1", "223.255.255.255", "2606:4700::1111",
    "2001:4860:4860::8888", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
]  # fmt: skip
NOT_PUBLIC = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.0.0.1", "192.0.0.8", "192.0.0.9", "192.0.0.170", "192.0.0.192", "192.0.2.1", "192.88.99.1",
    "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250",
    "240.0.0.1", "255.255.255.255",
    "::", "::1", "::2", "::10.0.0.1", "::8.8.8.8", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::ffff:0:10.0.0.1",
    "::ffff:224.0.0.1", "::ffff:192.0.0.192", "64:ff9b::169.254.169.254", "64:ff9b::10.0.0.1", "64:ff9b::127.0.0.1",
    "64:ff9b:1::8.8.8.8", "64:ff9b:1::10.0.0.1", "100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:a9fe:a9fe::1", "2002:808:808::1", "3fff::1",
    "5f00::1",
    "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1", "feff::1", "ff02::1", "ff0e::1",
]  # fmt: skip


@pytest.mark.parametrize("address", [*PUBLIC, *NOT_PUBLIC])
def test_which_addresses_are_public(address):
    assert is_public(address) == (address in PUBLIC)
