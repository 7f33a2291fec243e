//! Userspace WireGuard by its control socket (the "cross-platform userspace implementation" text protocol of
//! wireguard.com/xplatform). Own code for reads too: wireguard-control's blocks for as long as the process does,
//! refuses a scoped endpoint such as `fe80::1%eth0`, and drops the handshake's nanoseconds.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use wireplug_core::{Endpoint, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use super::{PeerState, PeerUpdate, RawState};

const SOCKETS: &str = "/var/run/wireguard";

/// The most that an answer may hold, in bytes: some 50,000 peers.
const MAX_ANSWER: u64 = 16 << 20;

/// Opens the control socket of the interface of that name.
pub(super) async fn connect(name: &str) -> io::Result<UnixStream> {
    UnixStream::connect(format!("{SOCKETS}/{name}.sock")).await
}

/// Reads a device.
pub(super) async fn read(name: &str) -> io::Result<RawState> {
    parse(&request(name, "get=1\n\n").await?)
}

/// Changes one peer.
pub(super) async fn update(name: &str, key: PublicKey, update: PeerUpdate) -> io::Result<()> {
    let answer = request(name, &set_request(key, update)).await?;
    check_errno(&answer)
}

/// One request and the whole answer. The answer of `get` holds the private key, so it is wiped.
async fn request(name: &str, text: &str) -> io::Result<Zeroizing<String>> {
    let mut stream = connect(name).await?;
    stream.write_all(text.as_bytes()).await?;
    let mut answer = Zeroizing::new(Vec::with_capacity(64 << 10));
    let mut chunk = Zeroizing::new([0; 4096]);
    // The process keeps the connection open for more requests: an empty line ends an answer.
    while !answer.ends_with(b"\n\n") {
        let read = stream.read(chunk.as_mut()).await?;
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&chunk[..read]);
        if answer.len() as u64 > MAX_ANSWER {
            return Err(invalid("an answer beyond all bounds"));
        }
    }
    let text = std::str::from_utf8(&answer).map_err(|_| invalid("an answer that is not text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// The text that changes one peer and cannot add one. The endpoint comes first, so that the keepalive
/// which a new interval sends goes there.
fn set_request(key: PublicKey, update: PeerUpdate) -> String {
    let mut text = String::from("set=1\npublic_key=");
    for byte in key.as_bytes() {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
    }
    text.push_str("\nupdate_only=true\n");
    if let Some(endpoint) = update.endpoint {
        let _ = writeln!(text, "endpoint={endpoint}");
    }
    if let Some(seconds) = update.keepalive {
        let _ = writeln!(text, "persistent_keepalive_interval={seconds}");
    }
    text.push('\n');
    text
}

fn check_errno(answer: &str) -> io::Result<()> {
    match answer.lines().find_map(|line| line.strip_prefix("errno=")) {
        Some("0") => Ok(()),
        // wireguard-go gives negated numbers of its own for some errors.
        Some(code) => match code.parse::<i32>() {
            Ok(code) => Err(io::Error::from_raw_os_error(code.wrapping_abs())),
            Err(_) => Err(invalid("an error without a number")),
        },
        None => {
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the device's process ended its answer early"))
        }
    }
}

fn parse(answer: &str) -> io::Result<RawState> {
    check_errno(answer)?;
    let mut state = RawState { private_key: None, listen_port: 0, fwmark: 0, peers: Vec::new() };
    for line in answer.lines().filter(|line| !line.is_empty()) {
        let (key, value) = line.split_once('=').ok_or_else(|| invalid("a line without \"=\""))?;
        if key == "public_key" {
            state.peers.push(new_peer(PublicKey::from_bytes(hex(value)?)));
        } else if let Some(peer) = state.peers.last_mut() {
            peer_line(peer, key, value)?;
        } else {
            match key {
                "private_key" => state.private_key = Some(PrivateKey::from_bytes(hex(value)?)),
                "listen_port" => state.listen_port = number(value)?,
                "fwmark" => state.fwmark = number(value)?,
                _ => {} // fields of later versions
            }
        }
    }
    Ok(state)
}

fn peer_line(peer: &mut PeerState, key: &str, value: &str) -> io::Result<()> {
    match key {
        "endpoint" => peer.endpoint = endpoint(value),
        "persistent_keepalive_interval" => {
            peer.keepalive = Some(number(value)?).filter(|seconds| *seconds > 0);
        }
        "last_handshake_time_sec" => {
            let seconds: u64 = number(value)?;
            peer.last_handshake = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
            if seconds == 0 {
                peer.last_handshake = None; // none yet
            }
        }
        "last_handshake_time_nsec" => {
            let nanos = Duration::from_nanos(u64::from(number::<u32>(value)?));
            peer.last_handshake = peer.last_handshake.and_then(|time| time.checked_add(nanos));
        }
        "rx_bytes" => peer.rx_bytes = number(value)?,
        "tx_bytes" => peer.tx_bytes = number(value)?,
        "allowed_ip" => peer.allowed_ips.push(prefix(value)?),
        _ => {} // the preshared key is none of our business
    }
    Ok(())
}

fn new_peer(public_key: PublicKey) -> PeerState {
    PeerState {
        public_key,
        endpoint: None,
        keepalive: None,
        last_handshake: None,
        rx_bytes: 0,
        tx_bytes: 0,
        allowed_ips: Vec::new(),
    }
}

/// An endpoint, whose scope wireguard-go writes as a number or as an interface's name.
fn endpoint(text: &str) -> Option<Endpoint> {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Endpoint::of_device(addr).ok();
    }
    let (ip, rest) = text.strip_prefix('[')?.split_once('%')?;
    let (scope, port) = rest.rsplit_once("]:")?;
    let scope = nix::net::if_::if_nametoindex(scope).ok()?;
    Endpoint::new(SocketAddrV6::new(ip.parse().ok()?, port.parse().ok()?, 0, scope).into()).ok()
}

fn prefix(text: &str) -> io::Result<(IpAddr, u8)> {
    let parsed = text.split_once('/').and_then(|(ip, bits)| Some((ip.parse().ok()?, bits.parse().ok()?)));
    parsed.ok_or_else(|| invalid("an allowed_ip that is no prefix"))
}

fn number<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| invalid("a number that is none"))
}

fn hex(text: &str) -> io::Result<[u8; 32]> {
    let wrong = || invalid("a key that is not 64 hexadecimal digits");
    let mut key = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong());
    }
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| wrong())?;
    }
    Ok(key)
}

/// An error about an answer; never the answer itself, which holds keys.
fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the device's process gave {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn an_answer_is_read_whole() {
        let text = format!(
            "private_key={A}\nlisten_port=51820\nfwmark=51820\npublic_key={B}\npreshared_key={A}\n\
             protocol_version=1\nendpoint=[fe80::1%lo]:5\nlast_handshake_time_sec=7\n\
             last_handshake_time_nsec=500000000\ntx_bytes=3\nrx_bytes=4\npersistent_keepalive_interval=25\n\
             allowed_ip=10.0.0.0/8\nallowed_ip=::/0\npublic_key={A}\nendpoint=5.6.7.8:9\n\
             last_handshake_time_sec=0\nlast_handshake_time_nsec=0\npersistent_keepalive_interval=0\n\
             later=1\nerrno=0\n\n"
        );
        let state = parse(&text).unwrap();
        assert_eq!(state.private_key, Some(PrivateKey::from_bytes([0xaa; 32])));
        assert_eq!((state.listen_port, state.fwmark), (51820, 51820));
        let [first, second] = &state.peers[..] else { panic!("two peers") };
        assert_eq!(first.endpoint.unwrap().addr().to_string(), "[fe80::1%1]:5");
        assert_eq!(
            first.last_handshake.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap(),
            Duration::from_millis(7500)
        );
        assert_eq!((first.tx_bytes, first.rx_bytes, first.keepalive), (3, 4, Some(25)));
        assert_eq!(first.allowed_ips.len(), 2);
        assert_eq!(second.endpoint.unwrap().to_string(), "5.6.7.8:9");
        assert_eq!((second.last_handshake, second.keepalive), (None, None));
    }

    #[test]
    fn an_error_or_a_torn_answer_is_one() {
        assert_eq!(parse("errno=-22\n\n").err().unwrap().raw_os_error(), Some(22));
        assert!(parse("listen_port=1\n").is_err());
        assert!(parse("listen_port=70000\nerrno=0\n\n").is_err());
        let error = parse(&format!("private_key={A}a\nerrno=0\n\n")).err().unwrap();
        assert!(!error.to_string().contains("aaaa"), "{error}");
    }

    #[test]
    fn a_request_updates_only_and_names_the_endpoint_first() {
        let endpoint = Endpoint::new("[2a00::1]:51820".parse().unwrap()).unwrap();
        let update = PeerUpdate { endpoint: Some(endpoint), keepalive: Some(25) };
        assert_eq!(
            set_request(PublicKey::from_bytes([0xbb; 32]), update),
            format!(
                "set=1\npublic_key={B}\nupdate_only=true\nendpoint=[2a00::1]:51820\n\
                 persistent_keepalive_interval=25\n\n"
            )
        );
    }
}
