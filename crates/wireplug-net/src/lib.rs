//! The operating system below wireplug: WireGuard device, shared port, netlink, resolver, clock
