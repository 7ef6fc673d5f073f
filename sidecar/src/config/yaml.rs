//! YAML read so that every scalar keeps its text: `0.1` stays `0.1` and never becomes a float on its way to money.

use std::borrow::Cow;

use figment::value::{Dict, Empty, Tag, Value};
use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use super::error::ConfigError;

/// Blocks within blocks; the configuration needs four.
const DEPTH_MAX: usize = 16;

/// Reads one document whose top level is a block of keys.
pub(crate) fn parse(text: &str) -> Result<Dict, ConfigError> {
    let mut reader = Reader { events: Parser::new_from_str(text) };
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
            Event::StreamEnd | Event::DocumentEnd => return Ok(Dict::new()),
            Event::Scalar(text, style, ..) if is_null(&text, style) => {}
            Event::MappingStart(..) => {
                let dict = reader.block(1)?;
                reader.end()?;
                return Ok(dict);
            }
            Event::Alias(_)
            | Event::Scalar(..)
            | Event::SequenceStart(..)
            | Event::SequenceEnd
            | Event::MappingEnd => {
                return Err(at(span, "the file must be a block of keys, such as `billing:`"));
            }
        }
    }
}

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), ConfigError> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(err)) => Err(ConfigError::Syntax {
                line: err.marker().line(),
                column: err.marker().col() + 1,
                problem: err.info().to_owned(),
            }),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// The rest of a block whose opening has been read.
    fn block(&mut self, depth: usize) -> Result<Dict, ConfigError> {
        let mut dict = Dict::new();
        loop {
            let (event, span) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(dict),
                Event::Scalar(key, ..) => key.into_owned(),
                _ => return Err(at(span, "a key must be a plain word")),
            };
            if dict.contains_key(&key) {
                return Err(at(span, format!("the key {key:?} occurs twice; keep one of them")));
            }
            let value = self.value(depth)?;
            dict.insert(key, value);
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, ConfigError> {
        let (event, span) = self.next()?;
        if depth == DEPTH_MAX {
            return Err(at(span, format!("more than {DEPTH_MAX} blocks within blocks")));
        }
        match event {
            Event::Scalar(text, style, ..) => Ok(scalar(text, style)),
            Event::MappingStart(..) => Ok(Value::Dict(Tag::Default, self.block(depth + 1)?)),
            Event::SequenceStart(..) => self.list(depth + 1),
            Event::Alias(_) => Err(at(span, "aliases are not read; write the value out")),
            _ => Err(at(span, "a value is missing")),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, ConfigError> {
        let mut items = Vec::new();
        while !matches!(self.events.peek(), Some(Ok((Event::SequenceEnd, _)))) {
            items.push(self.value(depth)?);
        }
        self.next()?;
        Ok(Value::Array(Tag::Default, items))
    }

    fn end(&mut self) -> Result<(), ConfigError> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentStart(_), span) => {
                    return Err(at(span, "a second document begins; keep one"));
                }
                _ => {}
            }
        }
    }
}

fn at(span: Span, problem: impl Into<String>) -> ConfigError {
    let (line, column) = (span.start.line(), span.start.col() + 1);
    ConfigError::Syntax { line, column, problem: problem.into() }
}

fn is_null(text: &str, style: ScalarStyle) -> bool {
    style == ScalarStyle::Plain && matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Value {
    if is_null(&text, style) {
        Value::Empty(Tag::Default, Empty::None)
    } else {
        Value::String(Tag::Default, text.into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match parse(text) {
            Ok(dict) => serde_json::to_string(&Value::from(dict)).unwrap(),
            Err(err) => err.to_string(),
        }
    }

    #[test]
    fn scalars_keep_their_text_and_mistakes_name_their_line() {
        for (text, expected) in [
            (
                "a: 0.10\nb: '0.10'\nc: 1e3\nd: 007",
                r#"{"a":"0.10","b":"0.10","c":"1e3","d":"007"}"#,
            ),
            ("a: { b: {c: yes} } # remark", r#"{"a":{"b":{"c":"yes"}}}"#),
            ("a: [1.0, {b: 2}]\n---\n", "line 2, column 1: a second document begins; keep one"),
            ("a: [1.0, {b: 2}, []]", r#"{"a":["1.0",{"b":"2"},[]]}"#),
            ("a:\nb: ~\nc: ''", r#"{"a":null,"b":null,"c":""}"#),
            ("", "{}"),
            ("# nothing but a remark", "{}"),
            ("a: 1\na: 2", r#"line 2, column 1: the key "a" occurs twice; keep one of them"#),
            ("x: &y 1\nz: *y", "line 2, column 4: aliases are not read; write the value out"),
            ("- 1", "line 1, column 1: the file must be a block of keys, such as `billing:`"),
            ("[a]: 1", "line 1, column 1: a key must be a plain word"),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn text_that_is_not_yaml_is_an_error_with_a_position() {
        assert!(read("a: {b: 1").starts_with("line "), "{}", read("a: {b: 1"));
        assert!(read("a: b: c").starts_with("line 1"), "{}", read("a: b: c"));
        assert!(
            read(&"a: {".repeat(20)).contains("more than 16 blocks"),
            "deep nesting is bounded"
        );
    }
}
