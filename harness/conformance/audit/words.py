"""Messages of rtnetlink(7) in words: the properties of a link; which address, route or rule. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_IFF_PROMISC = 0x100  # linux/if.h
PROMISCUITY = "promiscuity"
"""The property of a link that counts the requests for promiscuous mode."""

_LINK = {
    "mtu": "IFLA_MTU",
    "txqlen": "IFLA_TXQLEN",
    "master": "IFLA_MASTER",
    "parent": "IFLA_LINK",
    "queueing discipline": "IFLA_QDISC",
    "MAC address": "IFLA_ADDRESS",
    "operational state": "IFLA_OPERSTATE",
    "group": "IFLA_GROUP",
    "alias": "IFLA_IFALIAS",
    "all-multicast mode": "IFLA_ALLMULTI",
    PROMISCUITY: "IFLA_PROMISCUITY",
}
# counters, clocks, and properties that are reported elsewhere
_LEFT_OUT = ("STATS", "STATS2", "XSTATS", "CACHEINFO", "EXPIRES")
_HEADER = ("sequence_number", "length", "pid", "event", "index", "family", "prefixlen", "dst_len", "src_len")
NOUNS = {
    "ADDR": "address",
    "ROUTE": "route",
    "RULE": "routing rule",
    "QDISC": "queueing discipline",
    "TCLASS": "traffic class",
    "TFILTER": "traffic filter",
    "CHAIN": "chain of traffic filters",
    "ACTION": "traffic action",
}
"""The second half of a message's type, as in RTM_NEWADDR, in words."""


def link_facts(link: Any) -> dict[str, str]:
    """The properties that do not change by themselves: name -> value."""
    facts = {"flags": f"{link['flags'] & ~_IFF_PROMISC:#x}"}  # this flag follows the promiscuity
    facts |= {name: str(link.get_attr(attribute)) for name, attribute in _LINK.items()}
    xdp = link.get_attr("IFLA_XDP")
    return facts | {"XDP program": str(bool(xdp and xdp.get_attr("IFLA_XDP_ATTACHED")))}


def named(message: Any, links: Mapping[int, str]) -> str:
    """An address, a route or another object: `address 10.244.0.2/32 on eth0 (flags 128, scope 0)`. `links`: index ->
    name."""
    noun = NOUNS.get(str(message["event"])[7:], str(message["event"]))
    attributes = {key.partition("_")[2]: value for key, value in message["attrs"]}
    index = attributes.pop("OIF", message.get("index", message.get("ifindex")))
    where = "" if index is None else f" on {links.get(index, f'link {index}')}"
    match noun:
        case "address":
            address = attributes.pop("LOCAL", None) or attributes.get("ADDRESS")
            attributes.pop("ADDRESS", None)
            head = f"{address}/{message['prefixlen']}{where}"
        case "route":
            target = attributes.pop("DST", None)
            gateway = attributes.pop("GATEWAY", None)
            head = "default" if target is None else f"{target}/{message['dst_len']}"
            head += (f" via {gateway}" if gateway else "") + where
        case "routing rule":
            source, target = attributes.pop("SRC", "everywhere"), attributes.pop("DST", "everywhere")
            head = f"{attributes.pop('PRIORITY', 0)} from {source} to {target}"
        case _:
            head = f"{attributes.pop('KIND', 'of no kind')}{where}"
    rest = {key: value for key, value in message.items() if isinstance(value, int) and key not in _HEADER}
    rest |= {key.lower(): value for key, value in attributes.items() if key not in _LEFT_OUT}
    details = ", ".join(f"{key} {value}" for key, value in sorted(rest.items(), key=str) if value is not None)
    return f"{noun} {head}" + (f" ({details})" if details else "")
