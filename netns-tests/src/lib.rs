//! A lab of network namespaces: routers, NATs, a server, real WireGuard
