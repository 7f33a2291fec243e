//! Whole processes: server, daemons, TLS, faults
