//! Header maps: names in lower case, values in the order in which they were added, duplicates kept.

use std::fmt;

use crate::pairs::Pair;

/// A header map.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    entries: Vec<Pair>,
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        f.debug_list().entries(self.iter().map(|(name, value)| (text(name), text(value)))).finish()
    }
}

impl Headers {
    /// No header.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value; those that are already there stay.
    pub fn add(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.entries.push((name.as_ref().to_ascii_lowercase(), value.as_ref().to_vec()));
    }

    /// Sets a value in place of those that are there.
    pub fn replace(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.remove(&name);
        self.add(name, value);
    }

    /// Removes all values.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) {
        let name = name.as_ref().to_ascii_lowercase();
        self.entries.retain(|(entry, _)| *entry != name);
    }

    /// All values of a name.
    pub fn values(&self, name: impl AsRef<[u8]>) -> impl Iterator<Item = &[u8]> {
        let name = name.as_ref().to_ascii_lowercase();
        self.entries
            .iter()
            .filter(move |(entry, _)| *entry == name)
            .map(|(_, value)| value.as_slice())
    }

    /// The first value as text: what `proxy_get_header_map_value` gives, whatever follows it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values(name).next().map(|value| std::str::from_utf8(value).unwrap_or("(not UTF-8)"))
    }

    /// All values joined with commas: what the property `request.headers` gives.
    pub fn joined(&self, name: &str) -> Option<Vec<u8>> {
        let values: Vec<&[u8]> = self.values(name).collect();
        (!values.is_empty()).then(|| values.join(b",".as_slice()))
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        self.entries.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.entries.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut headers = Self::new();
        for (name, value) in pairs {
            headers.add(name, value);
        }
        headers
    }
}
