"""What the engine may talk to: the open internet, unless the operator allows more."""

import ipaddress
from typing import Final

import libtorrent as lt

PRIVATE: Final = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/3",
    "::/127",
    "::ffff:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
)
_BLOCKED = 1
_GLOBAL = 1
"""The bit of the first peer class."""


def private_filter() -> lt.ip_filter:
    """Blocks peers, trackers and web seeds on addresses that are nobody's on the internet."""
    ip_filter = lt.ip_filter()
    for text in PRIVATE:
        network = ipaddress.ip_network(text)
        ip_filter.add_rule(str(network[0]), str(network[-1]), _BLOCKED)
    return ip_filter


def everybody_counts() -> lt.ip_filter:
    """Puts every address into the class that the limits are set for, which local ones are not in by themselves."""
    classes = lt.ip_filter()
    for first, last in (("0.0.0.0", "255.255.255.255"), ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")):  # noqa: S104
        classes.add_rule(first, last, _GLOBAL)
    return classes
