//! Values that `proxy_get_property` reads, serialized as Envoy does.

use std::collections::BTreeMap;

use crate::pairs;
use crate::status::Status;

/// A property, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text: its bytes.
    Text(String),
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// A number of Envoy's own, such as `response.code`: 8 bytes little-endian.
    Int(i64),
    /// A number of metadata: 8 bytes of a little-endian double.
    Double(f64),
    /// One byte.
    Bool(bool),
    /// Metadata's null, which has no serialization.
    Null,
    /// A struct: pairs of names and serialized values.
    Map(BTreeMap<String, Value>),
    /// A list: pairs of serialized items and nothing.
    List(Vec<Value>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&serde_json::Value> for Value {
    /// Metadata as written in Envoy's configuration: every number becomes a double.
    fn from(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            serde_json::Value::String(text) => Self::Text(text.clone()),
            serde_json::Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            serde_json::Value::Object(map) => Self::Map(
                map.iter().map(|(name, value)| (name.clone(), Self::from(value))).collect(),
            ),
        }
    }
}

impl Value {
    /// Follows a path into structs and lists.
    pub(crate) fn find(&self, path: &[&str]) -> Option<&Self> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        match self {
            Self::Map(map) => map.get(*first)?.find(rest),
            Self::List(items) => items.get(first.parse::<usize>().ok()?)?.find(rest),
            Self::Text(_)
            | Self::Bytes(_)
            | Self::Int(_)
            | Self::Double(_)
            | Self::Bool(_)
            | Self::Null => None,
        }
    }

    /// Puts a value at a path, making structs on the way.
    pub(crate) fn put(&mut self, path: &[&str], value: Self) {
        let Some((first, rest)) = path.split_first() else {
            *self = value;
            return;
        };
        if !matches!(self, Self::Map(_)) {
            *self = Self::Map(BTreeMap::new());
        }
        if let Self::Map(map) = self {
            map.entry((*first).to_owned())
                .or_insert_with(|| Self::Map(BTreeMap::new()))
                .put(rest, value);
        }
    }

    pub(crate) fn serialize(&self) -> Result<Vec<u8>, Status> {
        match self {
            Self::Text(text) => Ok(text.clone().into_bytes()),
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::Int(number) => Ok(number.to_le_bytes().to_vec()),
            Self::Double(number) => Ok(number.to_le_bytes().to_vec()),
            Self::Bool(value) => Ok(vec![u8::from(*value)]),
            Self::Null => Err(Status::SerializationFailure),
            Self::Map(map) => {
                let values: Vec<(Vec<u8>, Vec<u8>)> = map
                    .iter()
                    .map(|(name, value)| Ok((name.clone().into_bytes(), value.serialize()?)))
                    .collect::<Result<_, Status>>()?;
                Ok(pairs::encode(
                    values.iter().map(|(name, value)| (name.as_slice(), value.as_slice())),
                ))
            }
            Self::List(items) => {
                let values: Vec<Vec<u8>> =
                    items.iter().map(Self::serialize).collect::<Result<_, _>>()?;
                Ok(pairs::encode(values.iter().map(|value| (value.as_slice(), [].as_slice()))))
            }
        }
    }
}

/// How long a property that a guest set lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LifeSpan {
    /// As long as one pass through the filters.
    FilterChain,
    /// As long as the downstream request.
    DownstreamRequest,
}

/// A guest's declaration of a property: Envoy's message `DeclarePropertyArguments`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) life_span: LifeSpan,
}

impl Declared {
    /// Reads the message's fields 1 (name) and 5 (life span); of the others, field 3 may say that the value is bytes.
    pub(crate) fn read(mut bytes: &[u8]) -> Option<Self> {
        let mut declared = Self { name: String::new(), life_span: LifeSpan::FilterChain };
        while let Some((tag, rest)) = bytes.split_first() {
            let (number, rest) = rest.split_first()?;
            bytes = rest;
            match (tag, number) {
                (0x0a, length) => {
                    let (name, rest) = bytes.split_at_checked(usize::from(*length))?;
                    declared.name = String::from_utf8(name.to_vec()).ok()?;
                    bytes = rest;
                }
                (0x28, 0) => declared.life_span = LifeSpan::FilterChain,
                (0x28, 1) => declared.life_span = LifeSpan::DownstreamRequest,
                (0x18, 0) => {}
                (_, _) => return None,
            }
        }
        (!declared.name.is_empty()).then_some(declared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_reads_as_envoy_reads_it() {
        let bytes = [&[0x0a, 3], &b"a.b"[..], &[0x28, 1]].concat();
        let expected = Declared { name: "a.b".to_owned(), life_span: LifeSpan::DownstreamRequest };
        assert_eq!(Declared::read(&bytes), Some(expected));
        for bytes in [&b""[..], &[0x0a, 9, b'a'], &[0x28, 1], &[0x30, 0], &[0x0a]] {
            assert_eq!(Declared::read(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn metadata_reads_as_in_envoy() {
        let json = serde_json::json!({"price": "0.002", "units": 3, "shadow": true, "list": ["a"]});
        let value = Value::from(&json);
        assert_eq!(value.find(&["price"]).unwrap().serialize(), Ok(b"0.002".to_vec()));
        assert_eq!(value.find(&["units"]).unwrap().serialize(), Ok(3.0_f64.to_le_bytes().to_vec()));
        assert_eq!(value.find(&["shadow"]).unwrap().serialize(), Ok(vec![1]));
        assert_eq!(value.find(&["list", "0"]).unwrap().serialize(), Ok(b"a".to_vec()));
        assert_eq!(value.find(&["price", "x"]), None);
        let pairs = pairs::decode(&value.serialize().unwrap()).unwrap();
        assert_eq!(pairs[1], (b"price".to_vec(), b"0.002".to_vec()));
    }
}
