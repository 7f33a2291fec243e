//! What a private relay's access list asks for.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// The longest access token in bytes.
const MAX: usize = 128;

/// A secret text that a server's operator gave to the people who may use its relay. `Debug` prints nothing of it;
/// it is wiped when dropped, and compared in a time that does not depend on where two differ.
#[derive(Clone, Eq, Zeroize, ZeroizeOnDrop)]
pub struct AccessToken(String);

/// Why a text is no access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an access token has 1 to {MAX} visible ASCII characters and no spaces: take the text that the operator gave"
)]
pub struct BadAccessToken;

impl AccessToken {
    /// A token from its text.
    ///
    /// # Errors
    /// [`BadAccessToken`] if it is empty, longer than 128 bytes, or has other than visible ASCII characters.
    pub fn new(mut text: String) -> Result<Self, BadAccessToken> {
        if (1..=MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text))
        } else {
            text.zeroize();
            Err(BadAccessToken)
        }
    }

    /// Its text: secret.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for AccessToken {
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), other.0.as_bytes());
        let differing = ours.iter().zip(theirs).fold(0, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(differing) == 0 && ours.len() == theirs.len()
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(…)")
    }
}
