//! Strategy hole-punch: the NAT's mapping of the WireGuard port, found by STUN
