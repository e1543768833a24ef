"""What a webhook's URL names, and which addresses are public."""

import asyncio
import ipaddress

import pytest

from service.webhooks.addresses import (
    NoUsableAddress,
    UnusableUrl,
    is_public,
    public_only,
    receiver_of,
    resolve,
)

INSIDE = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1"),
    *("127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8"),
    *("192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.7"),
    *("203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1"),
    *("64:ff9b:1::a00:1", "100::1", "2001::1", "2001:0:7f00:1::", "2001:10::1", "2001:20::1"),
    *("2001:db8::1", "2002:7f00:1::", "2002:a00:1::1", "3fff::1", "5f00::1", "fc00::1"),
    *("fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1"),
]
OUTSIDE = [
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0"),
    *("126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255"),
    *("172.32.0.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0"),
    *("223.255.255.255", "2606:4700::1111", "2a00:1450::1", "2001:200::1", "2400:cb00::1"),
]


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", OUTSIDE)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", INSIDE + OUTSIDE)
def test_none_is_public_that_the_standard_library_knows_not_to_be(address: str) -> None:
    read = ipaddress.ip_address(address)
    if is_public(read):
        assert read.is_global and not read.is_multicast


def test_one_address_inside_is_enough_to_refuse_a_name() -> None:
    outside, inside = ipaddress.ip_address("8.8.8.8"), ipaddress.ip_address("10.0.0.1")
    assert public_only([outside]) == [outside]
    for found in ([outside, inside], [inside], []):
        with pytest.raises(NoUsableAddress):
            public_only(found)


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("2130706433", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("[::1]", "::1"),
        ("[::ffff:127.0.0.1]", "::ffff:7f00:1"),
        ("[0:0:0:0:0:ffff:7f00:1]", "::ffff:7f00:1"),
        ("[64:ff9b::169.254.169.254]", "64:ff9b::a9fe:a9fe"),
        ("localhost", "localhost"),
        ("LOCALHOST.", "localhost"),
        ("a.localhost", "a.localhost"),
    ],
)
def test_every_way_to_write_this_machine_is_seen(written: str, host: str) -> None:
    for port in ("", ":8080", ":"):
        receiver = receiver_of(f"https://{written}{port}/hook")
        assert receiver.host == host
        assert not receiver.is_public


@pytest.mark.parametrize(
    ("url", "port", "authority", "target"),
    [
        ("https://Example.ORG", 443, "example.org", b"/"),
        ("https://example.org:443/", 443, "example.org", b"/"),
        ("http://example.org:443?x=1", 443, "example.org:443", b"/?x=1"),
        ("http://example.org.:8080/a", 8080, "example.org:8080", b"/a"),
        ("https://[2606:4700::1111]:99/a", 99, "[2606:4700::1111]:99", b"/a"),
        ('https://8.8.8.8/ä?ü=%20\x7f"<>\\^`{|}', 443, "8.8.8.8", None),
        ("https://a_b.xn--mnchen-3ya.de/@x:y", 443, "a_b.xn--mnchen-3ya.de", b"/@x:y"),
    ],
)
def test_a_url_is_taken_apart(url: str, port: int, authority: str, target: bytes | None) -> None:
    receiver = receiver_of(url)
    assert receiver.is_public
    assert (receiver.port, receiver.authority) == (port, authority)
    assert receiver.target == target or target is None
    assert all(0x21 <= byte < 0x7F for byte in receiver.target)


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://a.org", "HTTP://a.org", "https:///x", "https://", "a.org", "", "//a.org"),
        *("https://user@a.org", "https://a:b@a.org", "https://a.org@127.0.0.1", "https://@a.org"),
        *("https://a.org:0", "https://a.org:65536", "https://a.org:-1", "https://a.org:80x"),
        *("https://a.org:80:80", "https://a.org:٣", "https://1.2.3.4.5", "https://256.1.1.1"),
        *("https://09", "https://a.0x7f", "https://[::1", "https://[::1]x", "https://[::g]"),
        *("https://[fe80::1%25eth0]/", "https://[v1.a]", "https://[1.2.3.4]", "https://a..b"),
        *("https://.", "https://-a.org", "https://a-.org", "https://%31%32%37.0.0.1"),
        *("https://①②⑦.0.0.1", "https://127。0。0。1", "https://ünicode.org", "https://a\\@b.org"),
        *("https://" + "a" * 64 + ".org", "https://" + "a." * 130 + "org", "https://a.org/\ud800"),
        *("https://a.org/\n#x", "https://a\x00b.org", "https://a b.org"),
    ],
)
def test_urls_that_name_no_receiver(url: str) -> None:
    with pytest.raises(UnusableUrl) as refused:
        receiver_of(url)
    assert str(refused.value).endswith(".")


def test_a_user_name_is_what_is_wrong_with_the_url() -> None:
    with pytest.raises(UnusableUrl, match="user name"):
        receiver_of("https://a:b@example.org")


def test_names_are_resolved_and_unknown_ones_have_no_address() -> None:
    found = asyncio.run(resolve("localhost"))
    assert ipaddress.ip_address("127.0.0.1") in found or ipaddress.ip_address("::1") in found
    for name in ("nowhere.invalid", "a" * 300):
        with pytest.raises(NoUsableAddress):
            asyncio.run(resolve(name))
