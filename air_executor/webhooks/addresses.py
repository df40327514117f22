"""Where nothing is ever sent. Pure functions of addresses.

Whoever can write config.toml or a URL's DNS record must not be able to let this host ask its own services, those of
its network, or the metadata service of a cloud.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

_METADATA = frozenset(map(ip_address, ("fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")))
"""Those of Amazon, Alibaba, Microsoft and Oracle that are not link-local."""
_NAT64, _OLD = IPv6Network("64:ff9b::/96"), IPv6Network("::/96")
_TRANSLATED = (_NAT64, _OLD)
"""IPv6 addresses whose last 32 bits are an IPv4 address: those of NAT64, and an old form."""
_GIVEN_OUT = (
    *_TRANSLATED,
    *map(IPv6Network, ("2000::/3", "fc00::/7", "fec0::/10")),
)
"""IPv6 addresses that somebody may have: global ones, and those of a network or, once, a site. Of the rest some are
translated to IPv4 in ways that a network chooses, so they could be anything."""


def why_not(text: str, *, allow_private: bool) -> str | None:
    """What kind of address this is, if nothing may be sent there; None if it may.

    Args:
        text: an address as the system writes it, also one with a zone such as `fe80::1%eth0`.
        allow_private: whether this host and private networks are allowed. Link-local addresses, metadata
            services, multicast and addresses that are no host's are never.
    """
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return "no address"
    whys = (_kind(each) for each in _all_of(address))
    return next((why for why in whys if why is not None and not (allow_private and why in PRIVATE)), None)


PRIVATE = ("a loopback address", "a private address")
"""What `allow_private` allows."""


def _all_of(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """The address itself, and the IPv4 address that it stands for."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]  # only that is connected to
    found: list[IPv4Address | IPv6Address] = [address]
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found += address.teredo
    if any(address in network for network in _TRANSLATED) and int(address) > 1:
        found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return found


def _kind(address: IPv4Address | IPv6Address) -> str | None:
    """What an address is that is not everybody's; Python counts most of these as private, too."""
    if address in _METADATA:
        return "the metadata service of a cloud"
    if address.is_unspecified:
        return "the address of no host"
    if address.is_multicast:
        return "a multicast address"
    if address.is_link_local:
        return "a link-local address"
    if address.is_loopback:
        return "a loopback address"
    if address == IPv4Address("255.255.255.255"):
        return "a broadcast address"
    if isinstance(address, IPv6Address) and not any(address in network for network in _GIVEN_OUT):
        return "a reserved address"
    if isinstance(address, IPv4Address) and address.is_reserved:
        return "a reserved address"
    return "a private address" if _is_private(address) else None


def _is_private(address: IPv4Address | IPv6Address) -> bool:
    if address in _NAT64:  # the IPv4 address counts
        return False
    return not address.is_global or (isinstance(address, IPv6Address) and address.is_site_local)
