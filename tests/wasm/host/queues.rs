//! Shared queues: named, unbounded, delivered to whoever registered the name last.

use std::collections::{BTreeMap, VecDeque};

use crate::status::Status;

/// Who hears about new items: a VM and its root context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) vm: usize,
    pub(crate) root: u32,
}

#[derive(Debug)]
struct Queue {
    listener: Listener,
    items: VecDeque<Vec<u8>>,
}

/// The queues of one process.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    tokens: BTreeMap<(String, String), u32>,
    queues: BTreeMap<u32, Queue>,
}

impl Queues {
    /// Registers a name; items that wait in it stay.
    pub(crate) fn register(&mut self, vm_id: &str, name: &str, listener: Listener) -> u32 {
        let next = self.queues.keys().next_back().map_or(1, |last| last + 1);
        let token = *self.tokens.entry((vm_id.to_owned(), name.to_owned())).or_insert(next);
        self.queues
            .entry(token)
            .and_modify(|queue| queue.listener = listener)
            .or_insert_with(|| Queue { listener, items: VecDeque::new() });
        token
    }

    pub(crate) fn resolve(&self, vm_id: &str, name: &str) -> Option<u32> {
        self.tokens.get(&(vm_id.to_owned(), name.to_owned())).copied()
    }

    /// Adds an item and says who is to hear about it.
    pub(crate) fn enqueue(&mut self, token: u32, item: Vec<u8>) -> Result<Listener, Status> {
        let queue = self.queues.get_mut(&token).ok_or(Status::NotFound)?;
        queue.items.push_back(item);
        Ok(queue.listener)
    }

    pub(crate) fn dequeue(&mut self, token: u32) -> Result<Vec<u8>, Status> {
        let queue = self.queues.get_mut(&token).ok_or(Status::NotFound)?;
        queue.items.pop_front().ok_or(Status::Empty)
    }
}
