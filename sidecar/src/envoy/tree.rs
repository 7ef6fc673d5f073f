//! YAML and JSON as a tree in which every value knows its line and column.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use serde::Serialize;

/// Blocks within blocks; Envoy's own limit for messages is 100.
const DEPTH_MAX: usize = 200;

/// Values of a document, what aliases repeat counted each time.
const NODES_MAX: usize = 4_000_000;

/// A place in a file, counted from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) at: Position,
}

/// What stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Scalar {
        text: String,
        /// Whether it is a text whatever it looks like.
        is_quoted: bool,
        /// Whether its lines stand below it as they are (`|`).
        is_literal: bool,
    },
    List(Vec<Node>),
    Map(Vec<(String, Position, Node)>),
}

/// Why a text is no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
pub(crate) struct SyntaxError {
    pub(crate) at: Position,
    pub(crate) problem: String,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Reads a document of YAML, of which JSON is a part.
pub(crate) fn read(text: &str) -> Result<Node, SyntaxError> {
    let events = Parser::new_from_str(text);
    let mut reader = Reader { events, anchors: BTreeMap::new(), nodes_left: NODES_MAX };
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
            Event::StreamEnd | Event::DocumentEnd => {
                return Err(error(position(span), "there is nothing in it"));
            }
            event => {
                let root = reader.value(event, span, 0)?;
                reader.end()?;
                return Ok(root);
            }
        }
    }
}

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
    anchors: BTreeMap<usize, Node>,
    nodes_left: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), SyntaxError> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(err)) => {
                let (line, column) = (err.marker().line(), err.marker().col() + 1);
                Err(error(Position { line, column }, err.info()))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn value(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, SyntaxError> {
        let at = position(span);
        if depth == DEPTH_MAX {
            return Err(error(at, &format!("more than {DEPTH_MAX} blocks within blocks")));
        }
        self.take(at, 1)?;
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, scalar(text, style, tag.as_deref()))
            }
            Event::SequenceStart(anchor, _) => (anchor, Value::List(self.list(depth)?)),
            Event::MappingStart(anchor, _) => (anchor, Value::Map(self.map(depth)?)),
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).cloned();
                let known = known.ok_or_else(|| error(at, "the alias repeats what is unknown"))?;
                self.take(at, known.size())?;
                return Ok(known);
            }
            _ => return Err(error(at, "a value is missing")),
        };
        let node = Node { value, at };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn take(&mut self, at: Position, nodes: usize) -> Result<(), SyntaxError> {
        let left = self.nodes_left.checked_sub(nodes);
        self.nodes_left = left.ok_or_else(|| error(at, "the document has too many values"))?;
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.value(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(String, Position, Node)>, SyntaxError> {
        let mut entries: Vec<(String, Position, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let at = position(span);
            let key = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(key, ..) => key.into_owned(),
                _ => return Err(error(at, "a key must be a plain word")),
            };
            if entries.iter().any(|(known, ..)| *known == key) {
                let problem = format!("the key {key:?} occurs twice; keep one of them");
                return Err(error(at, &problem));
            }
            let (event, span) = self.next()?;
            entries.push((key, at, self.value(event, span, depth + 1)?));
        }
    }

    fn end(&mut self) -> Result<(), SyntaxError> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentStart(_), span) => {
                    return Err(error(position(span), "a second document begins; keep one"));
                }
                _ => {}
            }
        }
    }
}

impl Node {
    fn size(&self) -> usize {
        1 + match &self.value {
            Value::Null | Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(Self::size).sum(),
            Value::Map(entries) => entries.iter().map(|(.., node)| node.size()).sum(),
        }
    }
}

fn position(span: Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}

fn error(at: Position, problem: &str) -> SyntaxError {
    SyntaxError { at, problem: problem.to_owned() }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let is_plain = style == ScalarStyle::Plain && tag.is_none();
    if is_plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    let is_literal = style == ScalarStyle::Literal;
    Value::Scalar { text: text.into_owned(), is_quoted: !is_plain, is_literal }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: usize, column: usize) -> Position {
        Position { line, column }
    }

    #[test]
    fn every_value_knows_its_place_in_yaml_and_in_json() {
        let yaml = read("a:\n  - b: 1\n    c: { d: 'x' }\n").unwrap();
        let items = yaml.get("a").unwrap();
        let first = &items.items()[0];
        assert_eq!(first.get("b").unwrap().at, at(2, 8));
        assert_eq!(first.path(&["c", "d"]).unwrap().at, at(3, 13));
        let json = read("{\n \"a\": [{\"b\": 1,\n\t\"c\": {\"d\": \"x\"}}]\n}").unwrap();
        assert_eq!(json.get("a").unwrap().items()[0].path(&["c", "d"]).unwrap().at, at(3, 13));
    }

    #[test]
    fn aliases_repeat_what_they_name_and_cannot_grow_without_end() {
        let node = read("a: &x { b: [1, 2] }\nc: *x").unwrap();
        assert_eq!(node.path(&["c", "b"]).unwrap().items().len(), 2);
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let alias = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(", "));
        }
        let err = read(&bomb).unwrap_err().to_string();
        assert!(err.ends_with("the document has too many values"), "{err}");
    }

    #[test]
    fn what_is_no_document_is_an_error_with_a_place() {
        for (text, expected) in [
            ("a: 1\na: 2", "2:1: the key \"a\" occurs twice; keep one of them"),
            ("[a]: 1", "1:1: a key must be a plain word"),
            ("a: 1\n---\nb: 1", "2:1: a second document begins; keep one"),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), expected, "{text:?}");
        }
        assert!(read("").unwrap_err().to_string().ends_with("there is nothing in it"));
        let deep = format!("{}{}", "[".repeat(220), "]".repeat(220));
        assert!(read(&deep).unwrap_err().to_string().contains("more than 200 blocks"));
        assert!(read("a: {b").unwrap_err().at.line >= 1);
    }
}
