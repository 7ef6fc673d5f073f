//! Shared data: one map per process, with the rules of proxy-wasm-cpp-host's `shared_data.cc`.
//!
//! - Keys live in the namespace of a `vm_id`; all VMs with the same one see the same keys.
//! - A write with compare-and-swap number 0 is unconditional.
//! - A write to an existing key with another number than the stored one is refused.
//! - A write to a missing key succeeds whatever the number: a number that nothing has means "create, or fail".
//! - There is no delete. An empty value is a value with its own number.
//! - Numbers come from one counter for the whole process.

use std::collections::BTreeMap;

use crate::status::Status;

/// The map of one process.
#[derive(Debug, Default)]
pub struct SharedData {
    spaces: BTreeMap<String, BTreeMap<String, (Vec<u8>, u32)>>,
    last_cas: u32,
}

impl SharedData {
    /// The value and its compare-and-swap number.
    pub fn get(&self, vm_id: &str, key: &str) -> Option<(&[u8], u32)> {
        self.spaces.get(vm_id)?.get(key).map(|(value, cas)| (value.as_slice(), *cas))
    }

    /// Writes a value by the rules above.
    pub fn set(&mut self, vm_id: &str, key: &str, value: &[u8], cas: u32) -> Result<(), Status> {
        let space = self.spaces.entry(vm_id.to_owned()).or_default();
        let exists_as = space.get(key).map(|(_, stored)| *stored);
        if exists_as.is_some_and(|stored| cas != 0 && cas != stored) {
            return Err(Status::CasMismatch);
        }
        self.last_cas = match self.last_cas.wrapping_add(1) {
            0 => 1,
            next => next,
        };
        space.insert(key.to_owned(), (value.to_vec(), self.last_cas));
        Ok(())
    }

    /// The keys of a namespace in order. Guests cannot list keys; tests can.
    pub fn keys(&self, vm_id: &str) -> impl Iterator<Item = &str> {
        self.spaces.get(vm_id).into_iter().flat_map(|space| space.keys().map(String::as_str))
    }

    /// Bytes of all keys and values: what the process pays for them.
    pub fn bytes(&self, vm_id: &str) -> usize {
        let space = self.spaces.get(vm_id).into_iter().flatten();
        space.map(|(key, (value, _))| key.len() + value.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cas(data: &SharedData, key: &str) -> u32 {
        data.get("vm", key).unwrap().1
    }

    #[test]
    fn a_number_that_nothing_has_creates_or_fails() {
        let mut data = SharedData::default();
        assert_eq!(data.set("vm", "k", b"first", u32::MAX), Ok(()));
        assert_eq!(data.set("vm", "k", b"second", u32::MAX), Err(Status::CasMismatch));
        assert_eq!(data.get("vm", "k").unwrap().0, b"first");
    }

    #[test]
    fn zero_overwrites_without_a_check() {
        let mut data = SharedData::default();
        assert_eq!(data.set("vm", "k", b"first", 0), Ok(()));
        assert_eq!(data.set("vm", "k", b"second", 0), Ok(()));
        assert_eq!(data.get("vm", "k").unwrap().0, b"second");
    }

    #[test]
    fn the_number_changes_with_every_write_of_any_key() {
        let mut data = SharedData::default();
        data.set("vm", "a", b"", 0).unwrap();
        data.set("vm", "b", b"", 0).unwrap();
        let (a, b) = (cas(&data, "a"), cas(&data, "b"));
        assert_ne!(a, b);
        assert_eq!(data.set("vm", "a", b"x", b), Err(Status::CasMismatch));
        assert_eq!(data.set("vm", "a", b"x", a), Ok(()));
        assert_eq!(data.set("vm", "a", b"y", a), Err(Status::CasMismatch));
    }

    #[test]
    fn an_empty_value_is_not_a_missing_key() {
        let mut data = SharedData::default();
        data.set("vm", "k", b"v", 0).unwrap();
        data.set("vm", "k", b"", 0).unwrap();
        assert_eq!(data.set("vm", "k", b"w", u32::MAX), Err(Status::CasMismatch));
        let tombstone = cas(&data, "k");
        assert_eq!(data.set("vm", "k", b"w", tombstone), Ok(()));
    }

    #[test]
    fn namespaces_do_not_see_each_other() {
        let mut data = SharedData::default();
        data.set("vm", "k", b"v", 0).unwrap();
        assert_eq!(data.get("other", "k"), None);
        assert_eq!(data.keys("vm").collect::<Vec<_>>(), ["k"]);
    }
}
