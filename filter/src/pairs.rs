//! The ABI's serialization of lists of pairs: header maps, and structs read as properties.
//!
//! Layout, all numbers 32-bit little-endian: the count of pairs; for each pair the length of its name and of its value;
//! then for each pair name, NUL, value, NUL.

/// A borrowed pair.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    usize::try_from(u32::from_le_bytes(field.try_into().ok()?)).ok()
}

/// Reads a list; a malformed one reads as empty.
pub fn decode(bytes: &[u8]) -> Vec<Pair<'_>> {
    decode_strict(bytes).unwrap_or_default()
}

fn decode_strict(bytes: &[u8]) -> Option<Vec<Pair<'_>>> {
    let count = number(bytes, 0)?;
    let mut sizes_at = 4_usize;
    let mut at = count.checked_mul(8)?.checked_add(4)?;
    let mut pairs = Vec::with_capacity(count.min(256));
    for _ in 0..count {
        let name_end = at.checked_add(number(bytes, sizes_at)?)?;
        let value_start = name_end.checked_add(1)?;
        let value_end = value_start.checked_add(number(bytes, sizes_at.checked_add(4)?)?)?;
        pairs.push((bytes.get(at..name_end)?, bytes.get(value_start..value_end)?));
        at = value_end.checked_add(1)?;
        sizes_at = sizes_at.checked_add(8)?;
    }
    Some(pairs)
}

/// Writes a list.
pub fn encode(pairs: &[(&str, &str)]) -> Vec<u8> {
    let length = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&u32::try_from(pairs.len()).unwrap_or(u32::MAX).to_le_bytes());
    for (name, value) in pairs {
        bytes.extend_from_slice(&length(name));
        bytes.extend_from_slice(&length(value));
    }
    for (name, value) in pairs {
        for text in [name, value] {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_list_round_trips() {
        let pairs = [(":path", "/a"), ("x-user-id", ""), ("", "v")];
        let bytes = encode(&pairs);
        let expected: Vec<Pair<'_>> =
            pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        assert_eq!(decode(&bytes), expected);
    }

    #[test]
    fn a_truncated_list_is_no_list() {
        let bytes = encode(&[("name", "value")]);
        for end in 0..bytes.len() - 1 {
            assert_eq!(decode(&bytes[..end]), Vec::<Pair<'_>>::new());
        }
        assert_eq!(decode(&[255; 64]), Vec::<Pair<'_>>::new());
    }
}
