//! The operating system below wireplug, on Linux: the WireGuard device, the UDP port shared with it, routes
//! and addresses by netlink, a resolver and TCP with marked sockets, clocks and the interface lock.
//!
//! No policy lives here: nothing in this crate decides what to send, try or apply. Everything is
//! asynchronous on tokio and wants a runtime with IO and time enabled; the few calls that block the kernel's way
//! run on the blocking pool with a deadline. A network namespace is that of the thread which makes a value.

mod addresses;
mod batch;
mod clock;
mod device;
mod directories;
mod link;
mod lock;
mod neighbour;
mod nudge;
mod port;
mod readiness;
mod resolver;
mod router;
mod routes;
mod source;
mod tcp;
mod udp;

pub use addresses::{Addresses, AddressesError, Change, Changes, ChangesError, HostAddress};
pub use batch::{BatchSocket, Burst, Message, Outcome, Part, Poller, Pool, SendScratch, Waker};
pub use clock::{Sleeps, boottime, monotonic};
pub use device::{Backend, Device, DeviceError, DeviceState, PeerState, PeerUpdate};
pub use directories::{Directories, DirectoryEvent};
pub use lock::{InterfaceLock, LockError};
pub use neighbour::{LinkSocket, connect_on_link};
pub use nudge::nudge;
pub use port::{Datagram, Outgoing, PortError, SendError, SharedPort};
pub use resolver::{ResolveError, Resolved, Resolver};
pub use router::{OnLink, RouterSocket};
pub use routes::{Route, RouteError, Routes};
pub use source::source_towards;
pub use tcp::{ConnectError, connect, keep_unsent_short};
pub use udp::{Received, ServerSocket};
