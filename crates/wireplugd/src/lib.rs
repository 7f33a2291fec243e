//! The daemon beside a WireGuard interface, and its command line
