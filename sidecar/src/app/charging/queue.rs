//! Requests that wait for their turn: a line per account, first come first served, one turn at a time per account.
//! Pure: what runs the turns stands in `turns.rs`.

use std::collections::{BTreeMap, VecDeque};

use farebox_core::id::AccountId;

/// The most requests that may wait for one account.
pub(super) const LINE_MAX: usize = 2_000;

/// The most requests that may wait in all.
pub(super) const QUEUE_MAX: usize = 20_000;

/// The requests of one account.
#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<T>,
    /// Whether a turn of the account is running.
    busy: bool,
}

/// Every line.
#[derive(Debug)]
pub(super) struct Queue<T> {
    lines: BTreeMap<AccountId, Line<T>>,
    /// The accounts whose turn it may be: somebody waits, and no turn is running. The longest waiting first.
    ready: VecDeque<AccountId>,
    waiting: usize,
}

/// No more requests may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full {
    /// The bound that is reached.
    pub(super) count: usize,
}

/// Requests of several accounts, each account's in order of arrival.
pub(super) type Taken<T> = Vec<(AccountId, Vec<T>)>;

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { lines: BTreeMap::new(), ready: VecDeque::new(), waiting: 0 }
    }
}

impl<T> Queue<T> {
    /// How many requests wait.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Whether one more request of the account may wait.
    pub(super) fn room_for(&self, account: &AccountId) -> Result<(), Full> {
        if QUEUE_MAX <= self.waiting {
            return Err(Full { count: QUEUE_MAX });
        }
        if self.lines.get(account).is_some_and(|line| LINE_MAX <= line.waiting.len()) {
            return Err(Full { count: LINE_MAX });
        }
        Ok(())
    }

    /// Adds a request, for which there is room, at the end of its account's line.
    pub(super) fn push(&mut self, account: &AccountId, request: T) {
        self.line(account).waiting.push_back(request);
        self.admitted(account, 1);
    }

    /// Puts requests back to the head of their account's line, in their order. They were admitted before.
    pub(super) fn put_back(&mut self, account: &AccountId, requests: Vec<T>) {
        let count = requests.len();
        let line = self.line(account);
        for request in requests.into_iter().rev() {
            line.waiting.push_front(request);
        }
        self.admitted(account, count);
    }

    fn line(&mut self, account: &AccountId) -> &mut Line<T> {
        self.lines
            .entry(account.clone())
            .or_insert_with(|| Line { waiting: VecDeque::new(), busy: false })
    }

    /// Counts requests that were just added, and makes their account ready when they are its first ones.
    fn admitted(&mut self, account: &AccountId, count: usize) {
        self.waiting += count;
        let is_first = |line: &Line<T>| !line.busy && line.waiting.len() == count;
        if 0 < count && self.lines.get(account).is_some_and(is_first) {
            self.ready.push_back(account.clone());
        }
    }

    /// Takes up to `limit` requests of the accounts that `fits` says yes to, and begins their turns.
    pub(super) fn take(&mut self, limit: usize, fits: impl Fn(&AccountId) -> bool) -> Taken<T> {
        let (mut taken, mut left) = (Vec::new(), limit);
        let mut passed = VecDeque::new();
        while 0 < left
            && let Some(account) = self.ready.pop_front()
        {
            if !fits(&account) {
                passed.push_back(account);
                continue;
            }
            let Some(line) = self.lines.get_mut(&account) else { continue };
            let count = left.min(line.waiting.len());
            let requests = line.waiting.drain(..count).collect();
            line.busy = true;
            left -= count;
            self.waiting -= count;
            taken.push((account, requests));
        }
        passed.append(&mut self.ready);
        self.ready = passed;
        taken
    }

    /// Takes up to `limit` requests of the one account that waits longest of those that `fits` says yes to.
    pub(super) fn take_one(
        &mut self,
        limit: usize,
        fits: impl Fn(&AccountId) -> bool,
    ) -> Option<(AccountId, Vec<T>)> {
        let account = self.ready.iter().find(|account| fits(account)).cloned()?;
        self.take(limit, |other| *other == account).pop()
    }

    /// Ends an account's turn.
    pub(super) fn finish(&mut self, account: &AccountId) {
        let Some(line) = self.lines.get_mut(account) else { return };
        line.busy = false;
        if line.waiting.is_empty() {
            self.lines.remove(account);
        } else {
            self.ready.push_back(account.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> AccountId {
        name.parse().unwrap()
    }

    fn names(taken: Taken<u32>) -> Vec<(String, Vec<u32>)> {
        taken.into_iter().map(|(account, requests)| (account.to_string(), requests)).collect()
    }

    #[test]
    fn a_turn_takes_many_accounts_and_each_account_has_one_turn_at_a_time() {
        let mut queue = Queue::default();
        for (name, request) in [("u", 1), ("v", 2), ("u", 3)] {
            queue.push(&account(name), request);
        }
        assert_eq!(
            names(queue.take(9, |_| true)),
            [("u".into(), vec![1, 3]), ("v".into(), vec![2])]
        );
        queue.push(&account("u"), 4);
        assert!(queue.take(9, |_| true).is_empty(), "u is busy");
        queue.finish(&account("u"));
        queue.finish(&account("v"));
        assert_eq!(names(queue.take(9, |_| true)), [("u".into(), vec![4])]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn what_does_not_fit_into_a_turn_keeps_its_place() {
        let mut queue = Queue::default();
        for (name, request) in [("u", 1), ("u", 2), ("v", 3), ("u", 4)] {
            queue.push(&account(name), request);
        }
        assert_eq!(names(queue.take(2, |_| true)), [("u".into(), vec![1, 2])]);
        assert_eq!(names(queue.take(2, |_| true)), [("v".into(), vec![3])]);
        queue.put_back(&account("u"), vec![1, 2]);
        queue.finish(&account("u"));
        assert_eq!(names(queue.take(9, |_| true)), [("u".into(), vec![1, 2, 4])]);
    }

    #[test]
    fn accounts_that_go_alone_are_passed_over_and_taken_by_themselves() {
        let mut queue = Queue::default();
        for (name, request) in [("hot", 1), ("u", 2), ("hot", 3)] {
            queue.push(&account(name), request);
        }
        let is_hot = |account: &AccountId| account.as_str() == "hot";
        assert_eq!(names(queue.take(9, |account| !is_hot(account))), [("u".into(), vec![2])]);
        let (hot, requests) = queue.take_one(9, is_hot).unwrap();
        assert_eq!((hot.as_str(), requests), ("hot", vec![1, 3]));
        assert!(queue.take_one(9, is_hot).is_none());
    }

    #[test]
    fn a_full_line_and_a_full_queue_turn_away_and_others_go_on() {
        let mut queue = Queue::default();
        for request in 0..LINE_MAX {
            queue.push(&account("u"), request);
        }
        assert_eq!(queue.room_for(&account("u")), Err(Full { count: LINE_MAX }));
        assert_eq!(queue.room_for(&account("v")), Ok(()));
        let mut name = 0;
        while queue.len() < QUEUE_MAX {
            name += 1;
            queue.push(&account(&format!("w{name}")), 0);
        }
        assert_eq!(queue.room_for(&account("x")), Err(Full { count: QUEUE_MAX }));
    }

    proptest::proptest! {
        /// Whatever is pushed, taken, put back and finished, in any order: nobody is lost, nobody overtakes.
        #[test]
        fn each_account_is_served_in_order_and_nobody_is_lost(
            steps in proptest::collection::vec((0..4_u8, 0..3_usize, 1..5_usize), 1..80),
        ) {
            let accounts: Vec<AccountId> = ["a", "b", "c"].map(account).to_vec();
            let mut queue = Queue::default();
            let (mut next, mut served) = ([0_usize; 3], [0_usize; 3]);
            let mut running: Vec<(AccountId, Vec<usize>)> = Vec::new();
            let index = |account: &AccountId| accounts.iter().position(|known| known == account).unwrap();
            let mut end = |queue: &mut Queue<usize>, (account, requests): (AccountId, Vec<usize>)| {
                for request in requests {
                    proptest::prop_assert_eq!(request, served[index(&account)]);
                    served[index(&account)] += 1;
                }
                queue.finish(&account);
                Ok(())
            };
            for (step, which, count) in steps {
                match step {
                    0 | 1 => {
                        queue.push(&accounts[which], next[which]);
                        next[which] += 1;
                    }
                    2 => running.extend(queue.take(count, |_| true)),
                    _ => if let Some((account, mut requests)) = running.pop() {
                        let rest = requests.split_off(count.min(requests.len()));
                        queue.put_back(&account, rest);
                        end(&mut queue, (account, requests))?;
                    }
                }
            }
            while let Some(turn) = running.pop().or_else(|| queue.take_one(100, |_| true)) {
                end(&mut queue, turn)?;
            }
            proptest::prop_assert_eq!(served, next);
            proptest::prop_assert_eq!(queue.len(), 0);
        }
    }
}
