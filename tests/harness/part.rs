//! A part of the stack that a plan may leave out.

use std::ops::Deref;

/// The part. Using one that was left out is a mistake of the test and fails it.
#[derive(Debug)]
pub struct Part<T> {
    name: &'static str,
    inner: Option<T>,
}

impl<T> Part<T> {
    /// A part by its name, or its absence.
    pub(crate) fn new(name: &'static str, inner: Option<T>) -> Self {
        Self { name, inner }
    }

    /// The part, if it was started.
    pub fn get(&self) -> Option<&T> {
        self.inner.as_ref()
    }
}

impl<T> Deref for Part<T> {
    type Target = T;

    fn deref(&self) -> &T {
        let Self { name, inner } = self;
        inner.as_ref().unwrap_or_else(|| panic!("the plan of this stack left out {name}"))
    }
}
