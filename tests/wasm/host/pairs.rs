//! The ABI's serialization of lists of pairs.
//!
//! All numbers are 32-bit little-endian: the count of pairs; for each pair the length of its name and of its value; then
//! for each pair name, NUL, value, NUL. The empty list is no byte at all.

pub(crate) type Pair = (Vec<u8>, Vec<u8>);

pub(crate) fn encode<'a>(
    pairs: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + Clone,
) -> Vec<u8> {
    if pairs.len() == 0 {
        return Vec::new();
    }
    let number = |length: usize| u32::try_from(length).expect("pairs fit into 4 GiB").to_le_bytes();
    let mut bytes = number(pairs.len()).to_vec();
    for (name, value) in pairs.clone() {
        bytes.extend_from_slice(&number(name.len()));
        bytes.extend_from_slice(&number(value.len()));
    }
    for (name, value) in pairs {
        for text in [name, value] {
            bytes.extend_from_slice(text);
            bytes.push(0);
        }
    }
    bytes
}

/// Reads a list. Envoy reads a malformed one as empty, or beyond its end; this host says `None`.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<Pair>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let number = |at: usize| {
        let field = bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(field.try_into().ok()?) as usize)
    };
    let count = number(0)?;
    let mut at = count.checked_mul(8)?.checked_add(4)?;
    let mut text = |length: usize| {
        let start = at;
        let end = start.checked_add(length)?;
        at = end.checked_add(1)?;
        (bytes.get(end)? == &0).then(|| bytes[start..end].to_vec())
    };
    (0..count)
        .map(|index| {
            let sizes_at = 4 + index * 8;
            Some((text(number(sizes_at)?)?, text(number(sizes_at + 4)?)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_round_trips_and_a_truncated_one_is_noticed() {
        let pairs: [(&[u8], &[u8]); 2] = [(b":path", b"/"), (b"", b"\0x")];
        let bytes = encode(pairs.into_iter());
        let expected: Vec<Pair> =
            pairs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        assert_eq!(decode(&bytes), Some(expected));
        assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(decode(&[255; 8]), None);
        assert_eq!(decode(&[]), Some(Vec::new()));
    }
}
