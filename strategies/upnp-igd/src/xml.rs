//! What routers write as XML, read tolerantly and within bounds.
//!
//! Names lose their namespace prefix, texts their white space around them; white space and an unfinished document
//! are forgiven. A document type is not: it can declare entities, which is how a small document becomes a large one.

use quick_xml::Reader;
use quick_xml::events::Event;

/// The deepest that elements may be within each other: a description uses about ten.
const MAX_DEPTH: usize = 32;
/// The most elements of a document: a description uses about two hundred.
const MAX_ELEMENTS: usize = 4096;

/// Why a document was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadXml {
    /// It declares a document type.
    DocumentType,
    /// More elements, or deeper ones, than anybody needs.
    TooLarge,
    /// Nothing in it is XML.
    Empty,
}

/// One element.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) children: Vec<Self>,
}

impl Element {
    /// The first child of this name, whatever its case.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.is(name))
    }

    /// The text of the first child of this name, if there is any.
    pub(crate) fn child_text(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str()).filter(|text| !text.is_empty())
    }

    /// Every element of this name, at any depth, in the order of the document.
    pub(crate) fn all<'a>(&'a self, name: &str) -> Vec<&'a Self> {
        let mut found = Vec::new();
        let mut pending = vec![self];
        while let Some(element) = pending.pop() {
            if element.is(name) {
                found.push(element);
            }
            pending.extend(element.children.iter().rev());
        }
        found
    }

    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// Reads a document. Its root is the child of a nameless element.
pub(crate) fn parse(document: &[u8]) -> Result<Element, BadXml> {
    let text = String::from_utf8_lossy(document);
    let mut reader = Reader::from_str(&text);
    reader.config_mut().check_end_names = false;
    let mut open = vec![Element::default()];
    let mut elements = 0;
    loop {
        match reader.read_event() {
            Ok(Event::DocType(_)) => return Err(BadXml::DocumentType),
            Ok(Event::Start(start)) => {
                elements += 1;
                if elements > MAX_ELEMENTS || open.len() > MAX_DEPTH {
                    return Err(BadXml::TooLarge);
                }
                open.push(named(start.local_name().as_ref()));
            }
            Ok(Event::Empty(start)) => {
                elements += 1;
                if elements > MAX_ELEMENTS {
                    return Err(BadXml::TooLarge);
                }
                if let Some(parent) = open.last_mut() {
                    parent.children.push(named(start.local_name().as_ref()));
                }
            }
            Ok(Event::End(_)) => close(&mut open),
            Ok(Event::Text(text)) => append(&mut open, &text),
            Ok(Event::CData(data)) => append(&mut open, &data),
            Ok(Event::GeneralRef(reference)) => {
                let character = reference.resolve_char_ref().ok().flatten().map(String::from);
                let known = match &*reference {
                    "amp" => "&",
                    "lt" => "<",
                    "gt" => ">",
                    "quot" => "\"",
                    "apos" => "'",
                    // A number, or what no text that we look at has.
                    _ => character.as_deref().unwrap_or_default(),
                };
                append(&mut open, known);
            }
            Ok(Event::Decl(_) | Event::PI(_) | Event::Comment(_)) => {}
            // What was read until here may be all that is needed.
            Ok(Event::Eof) | Err(_) => break,
        }
    }
    while open.len() > 1 {
        close(&mut open);
    }
    let document = open.pop().unwrap_or_default();
    if document.children.is_empty() { Err(BadXml::Empty) } else { Ok(document) }
}

/// Text for an element's content.
pub(crate) fn escape(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

fn named(name: &str) -> Element {
    Element { name: name.to_owned(), ..Element::default() }
}

fn append(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

/// Ends the innermost element; the nameless one at the bottom stays.
fn close(open: &mut Vec<Element>) {
    if open.len() > 1
        && let Some(mut element) = open.pop()
        && let Some(parent) = open.last_mut()
    {
        element.text = String::from(element.text.trim());
        parent.children.push(element);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prefixes_white_space_and_case_do_not_matter() {
        let document = "<?xml version='1.0'?>\n<x:Root a='1'>\n <y:Code>\r\n  718\t</y:Code>\n <E/>\
                        <code>&lt;two&amp;\n<![CDATA[<3>]]></code></x:Root>";
        let read = parse(document.as_bytes()).unwrap();
        let root = read.child("root").unwrap();
        assert_eq!(root.child_text("code"), Some("718"));
        assert_eq!(root.child_text("e"), None);
        let codes: Vec<_> = read.all("CODE").iter().map(|code| code.text.as_str()).collect();
        assert_eq!(codes, ["718", "<two&\n<3>"]);
    }

    #[test]
    fn an_unfinished_document_is_read_as_far_as_it_goes() {
        let read = parse(b"<a><b>1</b><c>2</wrong><d>3").unwrap();
        assert_eq!(read.all("d")[0].text, "3");
        assert_eq!(parse(b""), Err(BadXml::Empty));
        assert_eq!(parse(b"hello"), Err(BadXml::Empty));
        assert!(parse(b"\xff\xfe<a>\xff</a>").is_ok());
    }

    #[test]
    fn entities_are_not_declared_and_not_expanded() {
        let bomb = "<!DOCTYPE a [<!ENTITY x 'ha'><!ENTITY y '&x;&x;&x;&x;'>]><a>&y;</a>";
        assert_eq!(parse(bomb.as_bytes()), Err(BadXml::DocumentType));
        assert_eq!(parse(b"<a>&x;1</a>").unwrap().child_text("a"), Some("1"));
    }

    #[test]
    fn depth_and_number_are_bounded() {
        assert_eq!(parse("<a>".repeat(10_000).as_bytes()), Err(BadXml::TooLarge));
        assert_eq!(parse("<a></a>".repeat(10_000).as_bytes()), Err(BadXml::TooLarge));
        assert_eq!(parse("<a/>".repeat(10_000).as_bytes()), Err(BadXml::TooLarge));
        assert!(parse("</a>".repeat(10_000).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(document in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = parse(&document);
        }

        #[test]
        fn never_panics_on_almost_right(document in "(<[/!?]?[a-z:]{0,3}( [a-z]='?)?/?>|&[a-z#0-9]{0,3};|[ -~]){0,60}") {
            let _ = parse(document.as_bytes());
        }

        #[test]
        fn what_is_escaped_reads_back(text in "[ -~]{0,40}") {
            let document = format!("<a>{}</a>", escape(&text));
            prop_assert_eq!(&parse(document.as_bytes()).unwrap().children[0].text, text.trim());
        }
    }
}
