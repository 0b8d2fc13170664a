"""Where a webhook may lead: by table."""

from __future__ import annotations

import pytest

from tasker.rules.urls import Target, UnsafeUrl, UrlRules, check_addresses, read_url

STRICT = UrlRules()
INSECURE = UrlRules(insecure=True)

GOOD = {
    "https://example.com": Target("https", "example.com", 443, "/"),
    "https://example.com/": Target("https", "example.com", 443, "/"),
    "HTTPS://Example.COM./a%20b?c=d&e": Target("https", "example.com", 443, "/a%20b?c=d&e"),
    "https://example.com?x=1": Target("https", "example.com", 443, "/?x=1"),
    "https://hooks.example.com:8443/in": Target("https", "hooks.example.com", 8443, "/in"),
    "https://xn--bcher-kva.example/": Target("https", "xn--bcher-kva.example", 443, "/"),
    "https://8.8.8.8/x": Target("https", "8.8.8.8", 443, "/x"),
    "https://[2606:4700:0::1111]/": Target("https", "2606:4700::1111", 443, "/"),
    "https://example.com/@me:22": Target("https", "example.com", 443, "/@me:22"),
}
PRIVATE = [
    "https://127.0.0.1", "https://127.1.2.3", "https://[::1]", "https://0.0.0.0", "https://169.254.169.254/latest",
    "https://10.0.0.1", "https://172.16.0.1", "https://172.31.255.255", "https://192.168.1.1", "https://100.64.0.1",
    "https://224.0.0.1", "https://255.255.255.255", "https://[::]", "https://[::ffff:127.0.0.1]",
    "https://[::ffff:7f00:1]", "https://[::ffff:8.8.8.8]", "https://[::127.0.0.1]", "https://[fc00::1]",
    "https://[fd12:3456::1]", "https://[fe80::1]", "https://[fec0::1]", "https://[ff02::1]",
    "https://[64:ff9b::7f00:1]", "https://[2002:7f00:1::]", "https://[2001:db8::1]", "https://[2001::1]",
    "https://localhost", "https://localhost.", "https://LOCALHOST:443/", "https://a.localhost", "https://redis",
    "https://printer.local", "https://metadata.google.internal", "https://router.home.arpa", "https://nas.lan",
]  # fmt: skip
ODD = [
    "https://2130706433", "https://0x7f.1", "https://0x7f000001", "https://0177.0.0.1", "https://127.1",
    "https://127.0.0.1.", "https://0", "https://0x", "https://017700000001", "https://1.2.3.0x7f",
    "https://%31%32%37.0.0.1", "https://①②⑦.0.0.1", "https://127。0。0。1", "https://example.com\\@127.0.0.1",
    "https://[::1%25lo]", "https://[::1", "https://[127.0.0.1]", "https://[v1.x]", "https://exa mple.com",
    "https://example.com\t/", "https://example.com/\n", "https://example..com", "https://-a.com", "https://.",
    "https://a_very" + "x" * 60 + ".com", "https://" + "a." * 127 + "example.com",
]  # fmt: skip
WRONG = [
    "", "example.com", "//example.com", "https:", "https:///x", "https:example.com", "file:///etc/passwd",
    "file://example.com/x", "gopher://example.com/_x", "ftp://example.com", "javascript:alert(1)", "data:,x",
    "ws://example.com", "https://user:pw@example.com", "https://user@example.com", "https://@example.com",
    "https://example.com:22", "https://example.com:25/", "https://example.com:0", "https://example.com:65536",
    "https://example.com:99999", "https://example.com:6379", "https://example.com:5432", "https://example.com:",
    "https://example.com:-1", "https://example.com:44 3", "https://example.com/#f", "https://example.com/%zz",
    "https://example.com/{x}", "https://example.com/" + "x" * 2048,
]  # fmt: skip


@pytest.mark.parametrize("url", GOOD)
def test_public_urls_are_accepted(url: str) -> None:
    assert read_url(url, STRICT) == GOOD[url]
    assert read_url(GOOD[url].url, STRICT) == GOOD[url]


@pytest.mark.parametrize("url", [*PRIVATE, *ODD, *WRONG])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(UnsafeUrl):
        read_url(url, STRICT)


def test_plain_http_is_refused() -> None:
    with pytest.raises(UnsafeUrl, match="expected https, got http"):
        read_url("http://example.com", STRICT)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/x", "http://localhost:8000", "http://redis/", "https://[::1]/"])
def test_insecure_allows_http_and_private_addresses(url: str) -> None:
    assert read_url(url, INSECURE).scheme == url.partition(":")[0]


@pytest.mark.parametrize(
    "url", [*WRONG, "http://2130706433", "http://0x7f.1", "http://user:pw@localhost", "http://localhost:22"]
)
def test_insecure_allows_only_plain_urls(url: str) -> None:
    with pytest.raises(UnsafeUrl):
        read_url(url, INSECURE)


def test_only_listed_hosts_are_accepted() -> None:
    rules = UrlRules(hosts=("hooks.example.com", "*.Example.org"))
    assert read_url("https://HOOKS.example.com/", rules).host == "hooks.example.com"
    assert read_url("https://a.b.example.org/", rules).host == "a.b.example.org"
    for url in ("https://example.com", "https://example.org", "https://badexample.org", "https://x.hooks.example.com"):
        with pytest.raises(UnsafeUrl, match="TASKER_WEBHOOK_HOSTS"):
            read_url(url, rules)


@pytest.mark.parametrize(
    "addresses",
    [
        [],
        ["127.0.0.1"],
        ["93.184.216.34", "10.0.0.1"],
        ["2606:4700::1111", "::1"],
        ["fe80::1%eth0"],
        ["::ffff:8.8.8.8"],
    ],
)
def test_a_name_is_accepted_only_if_all_its_addresses_are_public(addresses: list[str]) -> None:
    with pytest.raises(UnsafeUrl) as caught:
        check_addresses(addresses, STRICT)
    assert not any(address in str(caught.value) for address in addresses)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("0.0.0.0", "0.255.255.255"), ("10.0.0.0", "10.255.255.255"), ("100.64.0.0", "100.127.255.255"),
        ("127.0.0.0", "127.255.255.255"), ("169.254.0.0", "169.254.255.255"), ("172.16.0.0", "172.31.255.255"),
        ("192.0.0.0", "192.0.0.255"), ("192.0.2.0", "192.0.2.255"), ("192.88.99.0", "192.88.99.255"),
        ("192.168.0.0", "192.168.255.255"), ("198.18.0.0", "198.19.255.255"), ("198.51.100.0", "198.51.100.255"),
        ("203.0.113.0", "203.0.113.255"), ("224.0.0.0", "255.255.255.255"),
        ("::", "::ffff:ffff"), ("::ffff:0:0", "::ffff:ffff:ffff"), ("64:ff9b::", "64:ff9b::ffff:ffff"),
        ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"), ("100::", "100::ffff:ffff:ffff:ffff"),
        ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"), ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("fe80::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ],
)  # fmt: skip
def test_internal_networks_are_denied_from_end_to_end(first: str, last: str) -> None:
    for address in (first, last):
        with pytest.raises(UnsafeUrl):
            check_addresses([address], STRICT)
        with pytest.raises(UnsafeUrl):
            read_url(f"https://[{address}]" if ":" in address else f"https://{address}", STRICT)


@pytest.mark.parametrize(
    "address",
    [
        "1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
        "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255",
        "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2001:200::", "2001:db9::", "2003::",
    ],
)  # fmt: skip
def test_neighbours_of_internal_networks_are_allowed(address: str) -> None:
    assert check_addresses([address], STRICT) == [address]


@pytest.mark.parametrize(
    "port",
    [
        1, 79, 81, 442, 444, 1023, 1719, 1720, 1723, 2049, 3306, 3659, 4045, 4190, 5060, 5061, 5432, 6000, 6379, 6566,
        6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080, 11211, 27017, 65536,
    ],
)  # fmt: skip
def test_ports_of_other_services_are_refused(port: int) -> None:
    for rules in (STRICT, INSECURE):
        with pytest.raises(UnsafeUrl, match="no other service's"):
            read_url(f"https://example.com:{port}/", rules)


@pytest.mark.parametrize("port", [80, 443, 1024, 8080, 65535])
def test_other_ports_are_accepted(port: int) -> None:
    assert read_url(f"https://example.com:{port}/", STRICT).port == port


@pytest.mark.parametrize("suffix", ["localhost", "local", "internal", "intranet", "lan", "home.arpa", "localdomain"])
def test_internal_names_are_refused_but_not_names_that_end_alike(suffix: str) -> None:
    for name in (f"x.{suffix}", f"X.{suffix.upper()}."):
        with pytest.raises(UnsafeUrl, match="a public host name"):
            read_url(f"https://{name}/", STRICT)
    assert read_url(f"https://x.{suffix}.example.com/", STRICT).host == f"x.{suffix}.example.com"
    assert read_url(f"https://example.not{suffix}/", STRICT).host == f"example.not{suffix}"


def test_public_addresses_keep_their_order() -> None:
    assert check_addresses(["93.184.216.34", "2606:4700::1111"], STRICT) == ["93.184.216.34", "2606:4700::1111"]
    assert check_addresses(["127.0.0.1"], INSECURE) == ["127.0.0.1"]
