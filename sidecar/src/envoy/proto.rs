//! Values as Envoy reads them: fields of messages by either spelling, durations, typed messages, structs.

use serde_json::{Map, Value as Json};

use super::tree::{Node, Position, Value};

/// How a document is written: it decides what an unquoted number in a struct becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Envoy takes whole numbers of 32 bits for numbers, and all other unquoted values for texts, `0.5` too.
    Yaml,
    /// Numbers are numbers.
    Json,
}

impl Node {
    /// A field of a message, in snake or in camel case.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        self.entry(name).map(|(_, node)| node)
    }

    /// A field with the place of its key.
    pub(crate) fn entry(&self, name: &str) -> Option<(Position, &Self)> {
        let Value::Map(entries) = &self.value else { return None };
        let found = entries.iter().find(|(key, ..)| key == name || is_camel_of(key, name));
        found.map(|(_, at, node)| (*at, node)).filter(|(_, node)| node.value != Value::Null)
    }

    /// A key of a struct or a map, as it is written.
    pub(crate) fn literal(&self, name: &str) -> Option<&Self> {
        self.entries().iter().find(|(key, ..)| key == name).map(|(.., node)| node)
    }

    /// A field of a field of a field.
    pub(crate) fn path(&self, names: &[&str]) -> Option<&Self> {
        names.iter().try_fold(self, |node, name| node.get(name))
    }

    /// The items of a list; none where there is no list.
    pub(crate) fn items(&self) -> &[Self] {
        if let Value::List(items) = &self.value { items } else { &[] }
    }

    /// The items of a field that is a list.
    pub(crate) fn list(&self, name: &str) -> &[Self] {
        self.get(name).map_or(&[], Self::items)
    }

    /// The entries of a block; none where there is no block.
    pub(crate) fn entries(&self) -> &[(String, Position, Self)] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        if let Value::Scalar { text, .. } = &self.value { Some(text) } else { None }
    }

    /// The text of a field that is a scalar.
    pub(crate) fn text_of(&self, name: &str) -> Option<&str> {
        self.get(name)?.text()
    }

    /// The text of a field as its owner wants it; empty where it is absent.
    pub(crate) fn word(&self, name: &str) -> &str {
        self.text_of(name).unwrap_or_default()
    }

    /// Whether a field says true. Wrapped values (`BoolValue`) look the same.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.flag(name).unwrap_or(false)
    }

    /// A field's truth value, when it has one.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.text_of(name).and_then(truth)
    }

    /// A field's whole number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.text_of(name)?.parse().ok()
    }

    /// A field's duration (`1.5s`) in milliseconds, rounded down.
    pub(crate) fn duration_ms(&self, name: &str) -> Option<u64> {
        let text = self.text_of(name)?.strip_suffix('s')?;
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let fraction: String = fraction.chars().chain("000".chars()).take(3).collect();
        whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(fraction.parse().ok()?)
    }

    /// The last word of a message's type, and its fields.
    ///
    /// A `TypedStruct` stands for the message that it names.
    pub(crate) fn typed(&self) -> (&str, &Self) {
        let name = last_word(self.literal("@type").and_then(Self::text).unwrap_or_default());
        match (self.text_of("type_url"), self.get("value")) {
            (Some(inner), Some(value)) if name == "TypedStruct" => (last_word(inner), value),
            _ => (name, self),
        }
    }

    /// The value as a struct of JSON, as Envoy makes it of such a document.
    pub(crate) fn json(&self, format: Format) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Scalar { text, is_quoted: true, .. } => Json::String(text.clone()),
            Value::Scalar { text, .. } => plain(text, format),
            Value::List(items) => Json::Array(items.iter().map(|item| item.json(format)).collect()),
            Value::Map(entries) => {
                let members = entries.iter().map(|(key, _, node)| (key.clone(), node.json(format)));
                Json::Object(members.collect::<Map<_, _>>())
            }
        }
    }
}

/// The message's name without its package.
fn last_word(url: &str) -> &str {
    url.rsplit(['/', '.']).next().unwrap_or_default()
}

/// Whether a key is the camel case of a name in snake case.
fn is_camel_of(key: &str, name: &str) -> bool {
    let mut key = key.chars();
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().chars();
    let rest = words.flat_map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters)
    });
    first.chain(rest).all(|letter| key.next() == Some(letter)) && key.next().is_none()
}

/// The truth values of YAML 1.1, as yaml-cpp reads them.
fn truth(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    let upper = text.to_ascii_uppercase();
    let mut letters = lower.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    let title: String = first.into_iter().chain(letters).collect();
    if ![lower.as_str(), &upper, &title].contains(&text) {
        return None;
    }
    match lower.as_str() {
        "y" | "yes" | "true" | "on" => Some(true),
        "n" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

fn plain(text: &str, format: Format) -> Json {
    match format {
        Format::Json => serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.into())),
        Format::Yaml => match (truth(text), text.parse::<i64>()) {
            (Some(flag), _) => Json::Bool(flag),
            (None, Ok(whole)) if i32::try_from(whole).is_ok() => whole.into(),
            (None, _) => Json::String(text.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::read;
    use super::*;

    #[test]
    fn fields_are_found_in_either_spelling_and_struct_keys_only_as_written() {
        let node = read("{ httpFilters: [1], typed_config: {max_wait: 2s}, a: ~ }").unwrap();
        assert_eq!(node.list("http_filters").len(), 1);
        assert_eq!(node.path(&["typed_config", "max_wait"]).unwrap().text(), Some("2s"));
        assert_eq!(node.literal("http_filters"), None);
        assert_eq!(node.get("a"), None, "null is absent");
        assert!(!is_camel_of("httpFiltersX", "http_filters"));
        assert!(!is_camel_of("httpFilter", "http_filters"));
    }

    #[test]
    fn a_struct_is_what_envoy_makes_of_it() {
        let text = "{ a: 0.1, b: 1, c: '1', d: yes, e: 4294967296, f: [true, ~], g: -3 }";
        let node = read(text).unwrap();
        let json = |format| node.json(format).to_string();
        assert_eq!(
            json(Format::Yaml),
            r#"{"a":"0.1","b":1,"c":"1","d":true,"e":"4294967296","f":[true,null],"g":-3}"#
        );
        assert_eq!(
            json(Format::Json),
            r#"{"a":0.1,"b":1,"c":"1","d":"yes","e":4294967296,"f":[true,null],"g":-3}"#
        );
    }

    #[test]
    fn durations_are_read_in_milliseconds() {
        let node = read("{a: 1.5s, b: 0s, c: 60s, d: 0.25s, e: 5, f: x}").unwrap();
        let read = |name| node.duration_ms(name);
        assert_eq!(
            ["a", "b", "c", "d", "e", "f"].map(read),
            [Some(1_500), Some(0), Some(60_000), Some(250), None, None]
        );
    }

    #[test]
    fn a_typed_message_tells_its_name_also_when_a_struct_stands_for_it() {
        let plain = read("{ '@type': type.googleapis.com/a.b.v3.Router }").unwrap();
        assert_eq!(plain.typed().0, "Router");
        let wrapped = "{ '@type': type.googleapis.com/xds.type.v3.TypedStruct, type_url: t/a.Wasm, value: {x: 1} }";
        let wrapped = read(wrapped).unwrap();
        let (name, fields) = wrapped.typed();
        assert_eq!((name, fields.word("x")), ("Wasm", "1"));
    }
}
