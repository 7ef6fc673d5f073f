//! A request, as far as metering looks at it.

use std::collections::BTreeSet;

use farebox_core::code::Language;

use crate::answer::Caller;
use crate::pairs::Pair;

/// What Envoy tells about a request.
pub trait Request {
    /// Its header map, as the ABI serializes it.
    fn headers(&self) -> Vec<u8>;
    /// The name of its route.
    fn route_name(&self) -> Vec<u8>;
    /// The `farebox` metadata of its route, as the ABI serializes a struct; empty when there is none.
    fn route_metadata(&self) -> Vec<u8>;
    /// A claim of a verified token.
    fn claim(&self, payload: &str, claim: &str) -> Option<Vec<u8>>;
    /// The note that [`crate::worker::Worker::on_redirect`] left with the downstream request.
    fn moved(&self) -> Option<Vec<u8>>;
    /// Removes a header that only this filter may set.
    fn remove_header(&self, name: &str);
    /// Sets a header for the service behind the route.
    fn set_header(&self, name: &str, value: &str);
}

/// The value of a header, empty when it is absent.
pub fn header<'a>(headers: &[Pair<'a>], name: &[u8]) -> &'a [u8] {
    headers.iter().find(|(known, _)| *known == name).map_or(&[], |(_, value)| *value)
}

/// How the caller is spoken to.
pub fn caller_of(headers: &[Pair<'_>]) -> Caller {
    let language = String::from_utf8_lossy(header(headers, b"accept-language"));
    Caller {
        language: Language::from_accept_language(&language),
        is_grpc: header(headers, b"content-type").starts_with(b"application/grpc"),
    }
}

/// Headers of this filter's own name space are never taken from clients.
pub fn strip_own_headers(headers: &[Pair<'_>], request: &impl Request) {
    let mut removed = BTreeSet::new();
    for (name, _) in headers {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        if name.starts_with("x-farebox-") && removed.insert(name.clone()) {
            request.remove_header(&name);
        }
    }
}
