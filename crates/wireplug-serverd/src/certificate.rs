//! What the server proves itself with: a certificate of its own, made once and kept, or given files.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};

/// The own certificate and its key, in the state directory: one file, so that they always belong together.
const OWN_FILE: &str = "certificate.pem";
/// How long an own certificate is valid. Clients know it by its pin, so it is never renewed.
const OWN_LIFETIME: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// How far before its making an own certificate is valid, for clients whose clock is behind.
const OWN_BACKDATED: Duration = Duration::from_secs(24 * 3600);

/// A certificate chain with its key, ready to serve, and the pin that clients know it by.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    pin: Pin,
}

/// The SHA-256 of a certificate's `SubjectPublicKeyInfo` (RFC 7469 section 2.4), written `sha256/BASE64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; 32]);

/// Why there is no certificate to serve.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The state directory cannot be made or written.
    #[error(
        "cannot keep the server's certificate in {path}: {source}; make the directory writable for this user \
         or set state-dir to one that is"
    )]
    StateDir {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A certificate or key file cannot be read.
    #[error("cannot read {path}: {source}; check the path and its permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} holds no usable {what}: {why}; {remedy}")]
    Garbled {
        /// The file.
        path: PathBuf,
        /// "certificate" or "private key".
        what: &'static str,
        /// What is wrong with it.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The certificate is not valid any more.
    #[error(
        "the certificate {path} expired on {when}; renew it, or remove certificate and key to use a pinned one"
    )]
    Expired {
        /// The file.
        path: PathBuf,
        /// When, as the certificate says.
        when: String,
    },
    /// The key is another certificate's.
    #[error("the key {key} does not belong to the certificate {certificate}: {why}")]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls says.
        why: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

impl Identity {
    /// The server's own certificate in `state_dir`; it is made, valid around `now`, if there is none.
    ///
    /// # Errors
    /// [`CertificateError`] if the directory cannot be written, or what it holds is not a certificate.
    pub fn own(state_dir: &Path, now: SystemTime) -> Result<Self, CertificateError> {
        let path = state_dir.join(OWN_FILE);
        let remedy = "restore it, or remove it to start with a new one (clients must then take its new pin)";
        if let Some(pem) = read_if_there(&path)? {
            return Self::parse(&path, &pem, &path, &pem, remedy);
        }
        let made = make(now)?;
        let pem =
            keep(&path, &made).map_err(|source| CertificateError::StateDir { path: path.clone(), source })?;
        Self::parse(&path, &pem, &path, &pem, remedy)
    }

    /// The certificate chain of one PEM file, with the key of another, if it is valid at `now`.
    ///
    /// # Errors
    /// [`CertificateError`] names the file that cannot be used and why.
    pub fn given(certificate: &Path, key: &Path, now: SystemTime) -> Result<Self, CertificateError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|source| CertificateError::Read { path: path.to_owned(), source })
        };
        let remedy = "expected PEM, as certificate authorities give it";
        let identity = Self::parse(certificate, &read(certificate)?, key, &read(key)?, remedy)?;
        let leaf = parse_leaf(certificate, &identity.chain, remedy)?;
        let until = leaf.validity().not_after;
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        if u64::try_from(until.timestamp()).unwrap_or(0) < now {
            return Err(CertificateError::Expired { path: certificate.to_owned(), when: until.to_string() });
        }
        Ok(identity)
    }

    /// The pin that clients take.
    pub const fn pin(&self) -> Pin {
        self.pin
    }

    /// What rustls serves connections with: TLS 1.2 and 1.3, HTTP/1.1, no client certificates.
    ///
    /// # Errors
    /// What rustls finds wrong with the chain or the key.
    pub fn server_config(&self) -> Result<ServerConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()]; // RFC 7301 section 6
        Ok(config)
    }

    fn parse(
        certificate: &Path,
        certificate_pem: &[u8],
        key: &Path,
        key_pem: &[u8],
        remedy: &'static str,
    ) -> Result<Self, CertificateError> {
        let garbled = |path: &Path, what, why: String| CertificateError::Garbled {
            path: path.to_owned(),
            what,
            why,
            remedy,
        };
        let chain = CertificateDer::pem_slice_iter(certificate_pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| garbled(certificate, "certificate", error.to_string()))?;
        let private = PrivateKeyDer::from_pem_slice(key_pem)
            .map_err(|error| garbled(key, "private key", error.to_string()))?;
        let spki = parse_leaf(certificate, &chain, remedy)?.public_key().raw.to_vec();
        let identity = Self { chain, key: private, pin: Pin(Sha256::digest(&spki).into()) };
        match identity.server_config() {
            Ok(_) => Ok(identity),
            Err(why) => Err(CertificateError::Mismatch {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
                why: why.to_string(),
            }),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.pin)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256/{}", STANDARD.encode(self.0))
    }
}

fn parse_leaf<'a>(
    path: &Path,
    chain: &'a [CertificateDer<'static>],
    remedy: &'static str,
) -> Result<x509_parser::certificate::X509Certificate<'a>, CertificateError> {
    let parsed = match chain.first() {
        Some(leaf) => {
            x509_parser::parse_x509_certificate(leaf).map(|(_, leaf)| leaf).map_err(|error| error.to_string())
        }
        None => Err("it has no CERTIFICATE section".to_owned()),
    };
    parsed.map_err(|why| CertificateError::Garbled {
        path: path.to_owned(),
        what: "certificate",
        why,
        remedy,
    })
}

/// A new certificate and key, as the PEM of [`OWN_FILE`].
fn make(now: SystemTime) -> Result<String, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(["wireplug-serverd".to_owned()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "wireplug-serverd");
    params.not_before = (now - OWN_BACKDATED).into();
    params.not_after = (now + OWN_LIFETIME).into();
    Ok(params.self_signed(&key)?.pem() + &key.serialize_pem())
}

/// Writes `pem` to `path`, for this user only, whole or not at all; what another process wrote there
/// in the meantime wins and is given back.
fn keep(path: &Path, pem: &str) -> io::Result<Vec<u8>> {
    let dir = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let draft = path.with_extension(format!("new.{}", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(pem.as_bytes())?;
        file.sync_all()?;
        fs::hard_link(&draft, path) // unlike a rename, this replaces nothing
    })();
    fs::remove_file(&draft).ok();
    match written {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::read(path),
    }
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, CertificateError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CertificateError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    #[test]
    fn an_own_certificate_is_made_once_and_kept_for_this_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let first = Identity::own(&state, now()).unwrap().pin();
        assert_eq!(Identity::own(&state, now()).unwrap().pin(), first);
        assert!(first.to_string().starts_with("sha256/") && first.to_string().len() == 7 + 44);
        let mode = fs::metadata(state.join(OWN_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn the_pin_is_of_the_public_key_alone() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::own(dir.path(), now()).unwrap();
        let pem = fs::read_to_string(dir.path().join(OWN_FILE)).unwrap();
        let key = KeyPair::from_pem(&pem[pem.find("-----BEGIN PRIVATE").unwrap()..]).unwrap();
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
        assert_eq!(identity.pin(), Pin(Sha256::digest(spki).into()));
    }

    #[test]
    fn given_files_are_served_and_their_faults_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("good.pem"), make(now()).unwrap()).unwrap();
        fs::write(path("other.pem"), make(now()).unwrap()).unwrap();
        fs::write(path("junk.pem"), "junk").unwrap();
        fs::write(path("cut.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        let given = |certificate, key, now| Identity::given(&path(certificate), &path(key), now);

        assert!(given("good.pem", "good.pem", now()).is_ok());
        let expired = given("good.pem", "good.pem", now() + 2 * OWN_LIFETIME).unwrap_err();
        assert!(matches!(expired, CertificateError::Expired { .. }), "{expired}");
        let mismatch = given("good.pem", "other.pem", now()).unwrap_err();
        assert!(matches!(mismatch, CertificateError::Mismatch { .. }), "{mismatch}");
        for (certificate, key) in
            [("junk.pem", "good.pem"), ("good.pem", "junk.pem"), ("cut.pem", "good.pem")]
        {
            let garbled = given(certificate, key, now()).unwrap_err();
            assert!(matches!(garbled, CertificateError::Garbled { .. }), "{garbled}");
        }
        assert!(given("none.pem", "good.pem", now()).unwrap_err().to_string().contains("none.pem"));
    }

    #[test]
    fn a_state_directory_that_cannot_be_is_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let error = Identity::own(&dir.path().join("file/state"), now()).unwrap_err().to_string();
        assert!(error.contains("file/state"), "{error}");
    }
}
