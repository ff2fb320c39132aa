"""Private, loopback and link-local addresses are refused when a webhook is saved and when it is sent, by any name and
in any spelling; no redirect is followed; a receiver that dawdles or babbles holds nobody up."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from heimdall.errors import InvalidInput
from heimdall.site import env
from training import services
from training.errors import AddressRefused, NotDelivered
from training.notifications import addresses, webhook

# One address at least of each range of IANA's registries, and each way in which IPv6 carries an IPv4 address.
PRIVATE = [
    "127.0.0.1", "127.9.9.9", "10.0.0.3", "172.16.5.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "0.9.9.9", "192.0.0.9", "192.0.2.1", "192.31.196.7", "192.52.193.1", "192.88.99.1", "192.175.48.6", "198.18.0.1",
    "198.19.255.255", "198.51.100.1", "203.0.113.9", "224.0.0.1", "239.255.255.250", "255.255.255.255", "240.0.0.1",
    "::1", "::", "fe80::1", "fc00::1", "fec0::1", "ff02::1", "100::1", "100:0:0:1::1", "5f00::1", "64:ff9b:1::1",
    "2001::1", "2001:1::1", "2001:20::1", "2001:30::1", "2001:db8::1", "2002::1", "2620:4f:8000::1", "3fff::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:192.88.99.1", "::ffff:0:7f00:1", "::127.0.0.1", "::93.184.216.34",
    "2002:7f00:1::", "2002:5db8:d822::", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b::c058:6301", "2001:0:7f00:1::",
]  # fmt: skip
PUBLIC = [
    "93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822", "::ffff:93.184.216.34",
    "2001:200::1", "192.88.98.1", "198.17.255.255", "100.128.0.1", "172.32.0.1", "223.255.255.255", "3ffe::1",
]  # fmt: skip
NO_WEB_PORTS = [
    0,
    1,
    21,
    22,
    23,
    25,
    53,
    81,
    110,
    143,
    445,
    587,
    1023,
    2375,
    3306,
    5432,
    6379,
    6667,
    11211,
    27017,
]
NO_URL = [
    "", "hooks", "ftp://example.org/", "http://", "https://anna:pw@example.org/", "http://a b/", "http://x:99999/",
    "http://exa\nmple.org/", "http://example.org\\@127.0.0.1/", "https://" + "x" * 500, "http://[::1/",
]  # fmt: skip


def named(monkeypatch, *answers: str) -> None:
    """The system's resolver answers so, one answer a look-up; the last one stays."""
    left = list(answers)

    def look_up(host, port, **_):
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (left.pop(0) if len(left) > 1 else left[0], port))
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize("address", PRIVATE)
def test_no_private_address_is_called_by_its_number(address, alice):
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(InvalidInput) as refused:
        services.subscribe(by=alice, via="webhook", target=f"http://{host}/")
    assert "no public address" in refused.value.fields["target"][0]
    assert "HEIMDALL_WEBHOOK_ALLOW" in refused.value.fields["target"][0]


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1", "localhost."])
def test_nor_by_a_name_or_in_an_odd_spelling(host):
    with pytest.raises(AddressRefused):
        addresses.address_of(addresses.read(f"https://{host}/hook"))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_called(address, monkeypatch):
    named(monkeypatch, address)
    assert addresses.address_of(addresses.read("https://hooks.example.org/")) == address


def test_a_name_with_one_private_address_among_public_ones_is_refused(monkeypatch):
    rows = [(2, 1, 6, "", (address, 80)) for address in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: rows)
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1"):
        addresses.address_of(addresses.read("https://hooks.example.org/"))


@pytest.mark.parametrize("port", NO_WEB_PORTS)
def test_no_port_of_another_service_is_called(port, alice, monkeypatch):
    named(monkeypatch, "93.184.216.34")
    with pytest.raises(InvalidInput) as refused:
        services.subscribe(by=alice, via="webhook", target=f"http://hooks.example.org:{port}/")
    assert f"do not go to port {port}: use 80, 443" in refused.value.fields["target"][0]


@pytest.mark.parametrize("port", [80, 443, 1024, 3000, 8000, 8443, 65535])
def test_a_port_of_the_web_is_called(port):
    assert addresses.read(f"https://hooks.example.org:{port}/").port == port


def test_an_administrator_may_name_the_ports(monkeypatch, settings):
    monkeypatch.setenv("HEIMDALL_WEBHOOK_PORTS", "443, 81")
    settings.WEBHOOK_PORTS = env.ports("HEIMDALL_WEBHOOK_PORTS")
    assert [addresses.read(f"https://x:{port}/").port for port in (81, 443)] == [81, 443]
    with pytest.raises(AddressRefused, match="HEIMDALL_WEBHOOK_PORTS names 81, 443"):
        addresses.read("https://x:8443/")


@pytest.mark.parametrize("url", NO_URL)
def test_what_is_no_url_is_refused_with_a_sentence(url, alice):
    with pytest.raises(InvalidInput) as refused:
        services.subscribe(by=alice, via="webhook", target=url)
    assert refused.value.fields["target"][0].endswith((".", "fit."))


@pytest.mark.parametrize("allowed", ["10.1.0.0/16", "10.1.2.3", "Chat.Lab"])
def test_an_administrator_may_allow_a_host_or_a_network_of_the_house(allowed, monkeypatch, settings):
    monkeypatch.setenv("HEIMDALL_WEBHOOK_ALLOW", allowed)
    settings.WEBHOOK_ALLOW = env.hosts_and_networks("HEIMDALL_WEBHOOK_ALLOW")
    named(monkeypatch, "10.1.2.3")
    assert addresses.address_of(addresses.read("http://chat.lab:8065/hooks")) == "10.1.2.3"
    named(monkeypatch, "10.2.0.1")
    other = addresses.read("http://other.lab/")
    with pytest.raises(AddressRefused):
        addresses.address_of(other)


def test_a_name_that_points_elsewhere_when_it_is_sent_leads_nowhere(monkeypatch, alice, receiver):
    named(monkeypatch, "93.184.216.34", "127.0.0.1")
    saved = services.subscribe(by=alice, via="webhook", target="http://rebinding.example.org/")
    with pytest.raises(NotDelivered, match="no public address"):
        webhook.send(saved.target, secret=saved.secret, key="1", content={})
    assert not receiver.got


def test_the_address_that_was_checked_is_the_one_that_is_called(monkeypatch, at_home, receiver):
    port = receiver.url.split(":")[2].split("/")[0]
    named(monkeypatch, "127.0.0.1", "192.0.2.1")  # a second look-up would lead away
    content, secret = {"text": "hello"}, webhook.make_secret()
    answer = webhook.send(f"http://hooks.lab:{port}/x", secret=secret, key="k", content=content)
    assert answer.status == 204
    assert receiver.got[0][0]["Host"] == f"hooks.lab:{port}"


def test_a_redirect_is_not_followed(at_home, receiver):
    receiver.answer(302, Location=receiver.url)
    with pytest.raises(NotDelivered) as refused:
        webhook.send(receiver.url, secret=webhook.make_secret(), key="k", content={})
    assert refused.value.status == 302
    assert len(receiver.got) == 1


@pytest.mark.parametrize("proxy", ["http_proxy", "HTTP_PROXY"])
def test_no_proxy_of_the_environment_is_asked(proxy, monkeypatch, at_home, receiver):
    monkeypatch.setenv(proxy, "http://127.0.0.1:1")
    webhook.send(receiver.url, secret=webhook.make_secret(), key="k", content={})
    assert len(receiver.got) == 1


def test_a_receiver_that_drips_is_left_after_the_deadline(at_home, receiver, monkeypatch):
    monkeypatch.setattr(webhook, "SECONDS", 0.3)
    was_left = threading.Event()

    def drip(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(1_200):  # a minute
            try:
                handler.wfile.write(b"X-Slow: 1\r\n")
            except OSError:
                return was_left.set()
            time.sleep(0.05)

    receiver.answers.append(drip)
    with pytest.raises(NotDelivered, match="No whole answer"):
        webhook.send(receiver.url, secret=webhook.make_secret(), key="k", content={})
    assert was_left.wait(20)


def test_of_a_long_answer_only_the_beginning_is_read(at_home, receiver):
    receiver.answer(500, "x" * 300_000)
    with pytest.raises(NotDelivered) as failed:
        webhook.send(receiver.url, secret=webhook.make_secret(), key="k", content={})
    assert str(failed.value) == "x" * webhook.ANSWER_BYTES


def test_nobody_there_is_a_failed_try(at_home, receiver):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        with pytest.raises(NotDelivered, match="refused"):
            webhook.send(url, secret=webhook.make_secret(), key="k", content={})


def test_a_resolver_that_hangs_is_left_alone(monkeypatch):
    asked = threading.Event()
    monkeypatch.setattr(addresses, "LOOK_UP_SECONDS", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [asked.wait(5)][1:])
    with pytest.raises(AddressRefused, match="Nobody said"):
        addresses.address_of(addresses.read("https://hooks.example.org/"))
    asked.set()
