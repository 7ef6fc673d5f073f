//! What paused calls are to be told, and how much of it at a time.
//!
//! Envoy does what a callback asked for when the callback is over, one after the other, and an answer runs the filter's
//! callbacks for that stream: at their end Envoy goes on with the next one, inside of the former. So the stack grows with
//! every answer. After some 300 the VM has none left and is dead, with all calls that it held. A call that goes on costs
//! as much when it is answered at once, by a redirect or because its upstream has no room.

use std::collections::BTreeMap;

use crate::answer::Answer;

/// What may be done before the stack is sure to be empty again.
const BUDGET: u32 = 128;
/// What an answer takes of it, and what a call takes that goes on.
const ANSWER: u32 = 4;
const RESUME: u32 = 1;

/// What becomes of a paused call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Resume,
    /// It is answered.
    Answer(Answer),
}

impl Verdict {
    fn cost(&self) -> u32 {
        match self {
            Self::Resume => RESUME,
            Self::Answer(_) => ANSWER,
        }
    }
}

/// Verdicts that Envoy has not been told yet, in their order. As many as calls may wait.
#[derive(Debug, Default)]
pub struct Backlog {
    queue: BTreeMap<u64, (u32, Verdict)>,
    places: BTreeMap<u32, u64>,
    pushed: u64,
    spent: u32,
}

impl Backlog {
    /// Adds the verdict on a paused stream.
    pub fn push(&mut self, stream: u32, verdict: Verdict) {
        self.pushed = self.pushed.wrapping_add(1);
        self.queue.insert(self.pushed, (stream, verdict));
        self.places.insert(stream, self.pushed);
    }

    /// The stream has ended.
    pub fn forget(&mut self, stream: u32) {
        if let Some(place) = self.places.remove(&stream) {
            self.queue.remove(&place);
        }
    }

    /// The stack is empty: the running callback was called by nothing that an earlier one asked for.
    pub fn replenish(&mut self) {
        self.spent = 0;
    }

    /// The next verdict, unless that would be too much for the stack.
    pub fn take_first(&mut self) -> Option<(u32, Verdict)> {
        let first = self.queue.first_entry()?;
        let (stream, verdict) = first.get();
        let spent = self.spent.saturating_add(verdict.cost());
        if BUDGET < spent {
            return None;
        }
        self.spent = spent;
        self.places.remove(stream);
        Some(first.remove())
    }

    /// How many calls have not been told.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether every call has been told.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{Caller, Reason};
    use farebox_core::code::Language;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn told(backlog: &mut Backlog) -> Vec<u32> {
        std::iter::from_fn(|| backlog.take_first().map(|(stream, _)| stream)).collect()
    }

    #[test]
    fn so_many_are_told_at_a_time_in_their_order() {
        let answer = Reason::Held.answer(Caller { language: Language::English, is_grpc: false });
        let mut backlog = Backlog::default();
        (0..40).for_each(|stream| backlog.push(stream, Verdict::Answer(answer.clone())));
        (40..400).for_each(|stream| backlog.push(stream, Verdict::Resume));
        [1, 39, 39, 400].into_iter().for_each(|stream| backlog.forget(stream));
        let first: Vec<u32> = (0..33).filter(|stream| *stream != 1).collect();
        assert_eq!(told(&mut backlog), first);
        assert!(told(&mut backlog).is_empty(), "the stack may still be in use");
        backlog.replenish();
        assert_eq!(told(&mut backlog), (33..39).chain(40..144).collect::<Vec<_>>());
        backlog.replenish();
        assert_eq!(told(&mut backlog), (144..272).collect::<Vec<_>>());
        assert_eq!(backlog.len(), 128);
    }
}
