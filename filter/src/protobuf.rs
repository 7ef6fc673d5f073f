//! Reads a serialized `google.protobuf.Struct`, the natural way to write a configuration in Envoy's YAML.
//!
//! Envoy hands a `Struct` to the plugin as it is on the wire; only `StringValue` and `BytesValue` are unpacked.
//! Field numbers are those of `google/protobuf/struct.proto`; the encoding is the protobuf wire format.

use serde_json::{Map, Number, Value};

/// Nesting beyond this is refused: the decoder calls itself.
const DEPTH_MAX: usize = 32;

/// One field of a message.
enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
}

/// Decodes a `Struct`; `None` when the bytes are none.
pub(crate) fn decode_struct(bytes: &[u8]) -> Option<Value> {
    decode_fields(bytes, DEPTH_MAX).map(Value::Object)
}

fn decode_fields(mut bytes: &[u8], depth: usize) -> Option<Map<String, Value>> {
    let depth = depth.checked_sub(1)?;
    let mut map = Map::new();
    while !bytes.is_empty() {
        // Field 1 of a Struct is its map; a map entry is a message of key (1) and value (2).
        let (1, Field::Bytes(entry)) = next_field(&mut bytes)? else { return None };
        let (name, value) = decode_entry(entry, depth)?;
        map.insert(name, value);
    }
    Some(map)
}

fn decode_entry(mut entry: &[u8], depth: usize) -> Option<(String, Value)> {
    let (mut name, mut value) = (String::new(), Value::Null);
    while !entry.is_empty() {
        match next_field(&mut entry)? {
            (1, Field::Bytes(bytes)) => name = std::str::from_utf8(bytes).ok()?.to_owned(),
            (2, Field::Bytes(bytes)) => value = decode_value(bytes, depth)?,
            (_, _) => return None,
        }
    }
    Some((name, value))
}

fn decode_value(mut bytes: &[u8], depth: usize) -> Option<Value> {
    let mut value = Value::Null;
    while !bytes.is_empty() {
        value = match next_field(&mut bytes)? {
            (1, Field::Varint(_)) => Value::Null,
            (2, Field::Fixed64(bits)) => Value::Number(decode_number(bits)?),
            (3, Field::Bytes(text)) => Value::String(std::str::from_utf8(text).ok()?.to_owned()),
            (4, Field::Varint(truth)) => Value::Bool(truth != 0),
            (5, Field::Bytes(fields)) => Value::Object(decode_fields(fields, depth)?),
            (6, Field::Bytes(items)) => Value::Array(decode_list(items, depth)?),
            (_, _) => return None,
        };
    }
    Some(value)
}

fn decode_list(mut bytes: &[u8], depth: usize) -> Option<Vec<Value>> {
    let depth = depth.checked_sub(1)?;
    let mut items = Vec::new();
    while !bytes.is_empty() {
        let (1, Field::Bytes(item)) = next_field(&mut bytes)? else { return None };
        items.push(decode_value(item, depth)?);
    }
    Some(items)
}

/// A `Struct` has no integers; whole numbers are given back as such.
fn decode_number(bits: u64) -> Option<Number> {
    match crate::rule::whole_double(bits) {
        Some(whole) => Some(Number::from(whole)),
        None => Number::from_f64(f64::from_bits(bits)),
    }
}

fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let tag = next_varint(bytes)?;
    let field = match tag & 7 {
        0 => Field::Varint(next_varint(bytes)?),
        1 => {
            let (number, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            Field::Fixed64(u64::from_le_bytes(*number))
        }
        2 => {
            let length = usize::try_from(next_varint(bytes)?).ok()?;
            let (content, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Field::Bytes(content)
        }
        _ => return None,
    };
    Some((tag >> 3, field))
}

fn next_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Length-delimited field.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap();
        let mut bytes = vec![number << 3 | 2, (length & 0x7f) as u8 | 0x80, (length >> 7) as u8];
        bytes.extend_from_slice(content);
        bytes
    }

    fn entry(name: &str, value: &[u8]) -> Vec<u8> {
        field(1, &[field(1, name.as_bytes()), field(2, value)].concat())
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let number = |value: u64| [vec![0x11], value.to_le_bytes().to_vec()].concat();
        let text = field(3, b"0.002");
        let list = field(6, &field(1, &text));
        let bytes = [
            entry("text", &text),
            entry("three", &number(0x4008_0000_0000_0000)),
            entry("half", &number(0x3fe0_0000_0000_0000)),
            entry("yes", &[0x20, 1]),
            entry("nothing", &[0x08, 0]),
            entry("list", &list),
            entry("object", &field(5, &entry("inner", &text))),
        ]
        .concat();
        let expected = serde_json::json!({
            "text": "0.002", "three": 3, "half": 0.5, "yes": true, "nothing": null,
            "list": ["0.002"], "object": {"inner": "0.002"},
        });
        assert_eq!(decode_struct(&bytes), Some(expected));
    }

    #[test]
    fn other_bytes_are_no_struct() {
        for bytes in [&b"{}"[..], b"\x0a\xff", b"\x0a\x02\x0a", &[0xff; 20], b"\x12\x00"] {
            assert_eq!(decode_struct(bytes), None, "{bytes:?}");
        }
        let deep = (0..40).fold(Vec::new(), |inner, _| entry("a", &field(5, &inner)));
        assert_eq!(decode_struct(&deep), None, "nesting is bounded");
    }

    #[cfg(not(target_family = "wasm"))]
    proptest::proptest! {
        #[test]
        fn no_input_is_too_much(bytes: Vec<u8>) {
            let _ = decode_struct(&bytes);
        }
    }
}
