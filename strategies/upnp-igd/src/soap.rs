//! SOAP, as far as UPnP's control uses it (UDA 1.1 section 3.2): an action with arguments, and its answer or fault.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::xml::{self, Element};

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The action was done; the values by their names.
    Done(BTreeMap<String, String>),
    /// It was not (UDA 1.1 section 3.2.2, `UPnPError`).
    Fault {
        /// UPnP's code.
        code: u16,
        /// The router's words, cut.
        says: String,
    },
}

/// The envelope of an action.
pub(crate) fn envelope(service: &str, action: &str, arguments: &[(&str, String)]) -> String {
    let mut inner = String::new();
    for (name, value) in arguments {
        // Writing to a String cannot fail.
        let _ = write!(inner, "<{name}>{}</{name}>", xml::escape(value));
    }
    let service = xml::escape(service);
    wrapped(&format!("<u:{action} xmlns:u=\"{service}\">{inner}</u:{action}>"))
}

/// Reads an answer to an action, as tolerantly as can be: prefixes, white space and the places of elements do not
/// matter. `None` where it is neither an answer nor a fault.
pub(crate) fn read(action: &str, body: &[u8]) -> Option<Reply> {
    let document = xml::parse(body).ok()?;
    if let Some(done) = document.all(&format!("{action}Response")).first() {
        let values = done.children.iter().map(|value| (value.name.clone(), value.text.clone()));
        return Some(Reply::Done(values.collect()));
    }
    let text = |name: &str| document.all(name).first().map(|element| element.text.as_str());
    let code = number(text("errorCode")?)?;
    let says = text("errorDescription").unwrap_or_default();
    Some(Reply::Fault { code, says: words(says) })
}

/// The same answer as a strict reader wants it.
pub(crate) fn tidy(action: &str, values: &BTreeMap<String, String>) -> String {
    let mut inner = String::new();
    for (name, value) in values.iter().filter(|(name, _)| name.bytes().all(|b| b.is_ascii_alphanumeric())) {
        let _ = write!(inner, "<{name}>{}</{name}>", xml::escape(value));
    }
    wrapped(&format!("<u:{action}Response xmlns:u=\"x\">{inner}</u:{action}Response>"))
}

/// A router's words, for a person: one short line.
pub(crate) fn words(text: &str) -> String {
    let line: Vec<&str> = text.split_whitespace().collect();
    line.join(" ").chars().filter(|c| !c.is_control()).take(80).collect()
}

/// The text of a document's first element of this name, as words.
pub(crate) fn first_words(document: &Element, name: &str) -> Option<String> {
    document.all(name).first().map(|element| words(&element.text)).filter(|words| !words.is_empty())
}

/// The first number of a text.
fn number(text: &str) -> Option<u16> {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

fn wrapped(body: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>{body}</s:Body></s:Envelope>\r\n"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_is_found_whatever_its_dress() {
        let answer = "<SOAP-ENV:Envelope><SOAP-ENV:Body><m:GetStatusInfoResponse>\
                      <NewConnectionStatus> Up </NewConnectionStatus><NewUptime>1</NewUptime>";
        let Some(Reply::Done(values)) = read("GetStatusInfo", answer.as_bytes()) else { panic!() };
        assert_eq!(values["NewConnectionStatus"], "Up");
        assert_eq!(
            read("GetStatusInfo", tidy("GetStatusInfo", &values).as_bytes()),
            Some(Reply::Done(values))
        );
    }

    #[test]
    fn u12_an_error_code_is_found_in_white_space_and_under_any_prefix() {
        for fault in [
            "<s:Envelope><s:Body><s:Fault><detail><UPnPError><errorCode>718</errorCode><errorDescription>Conflict\
             </errorDescription></UPnPError></detail></s:Fault></s:Body></s:Envelope>",
            "<a:Envelope>\n<a:Body>\n<a:Fault>\n<detail>\n<e:UPnPError>\n<e:errorCode>\r\n\t 718 \r\n</e:errorCode>\
             <e:errorDescription>\n Conflict\n</e:errorDescription>",
            "<Fault><errorcode><![CDATA[718]]></errorcode><errorDescription>Conflict</errorDescription></Fault>",
        ] {
            let says = "Conflict".to_owned();
            assert_eq!(
                read("AddPortMapping", fault.as_bytes()),
                Some(Reply::Fault { code: 718, says }),
                "{fault}"
            );
        }
        assert_eq!(read("X", b"<html><body>500</body></html>"), None);
        assert_eq!(read("X", b"<errorCode>99999</errorCode>"), None);
    }

    #[test]
    fn an_envelope_escapes_what_it_carries() {
        let text = envelope("urn:x:1", "Do", &[("A", "<&>".to_owned()), ("B", String::new())]);
        assert!(text.contains("<u:Do xmlns:u=\"urn:x:1\"><A>&lt;&amp;&gt;</A><B></B></u:Do>"), "{text}");
    }

    proptest! {
        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..800)) {
            let _ = read("AddPortMapping", &body);
            words(&String::from_utf8_lossy(&body));
        }

        #[test]
        fn any_error_code_is_read(code in any::<u16>(), before in "[ \t\r\n]{0,5}", says in "[ -~]{0,200}") {
            let fault = format!(
                "<x><errorCode>{before}{code}{before}</errorCode><errorDescription>{}</errorDescription></x>",
                xml::escape(&says)
            );
            let Some(Reply::Fault { code: found, says }) = read("X", fault.as_bytes()) else { panic!() };
            prop_assert_eq!(found, code);
            prop_assert!(says.chars().count() <= 80);
        }
    }
}
