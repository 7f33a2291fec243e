//! Strategy direct: public addresses of this host, and configured names of peers
