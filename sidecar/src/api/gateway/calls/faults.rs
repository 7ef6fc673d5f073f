//! A fault of the database is logged once, however many requests it hit.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::store::StoreError;

/// How many faults are remembered; more than this at the same moment are logged more often than once.
const REMEMBERED_MAX: usize = 64;

/// The faults that were logged.
#[derive(Debug, Clone, Default)]
pub(in crate::api::gateway) struct Faults {
    logged: Arc<Mutex<VecDeque<Weak<StoreError>>>>,
}

impl Faults {
    /// Logs the fault, unless another request that it hit has done so; whether it did.
    pub(super) fn log(&self, endpoint: &'static str, fault: &Arc<StoreError>) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        // A weak pointer keeps the address taken, so no other fault can be mistaken for this one.
        if logged.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(fault))) {
            return false;
        }
        if logged.len() == REMEMBERED_MAX {
            logged.pop_front();
        }
        logged.push_back(Arc::downgrade(fault));
        drop(logged);
        if fault.is_outage() {
            tracing::error!(endpoint, error = %fault, "the database kept requests from being answered");
        } else {
            tracing::error!(endpoint, error = %fault, "requests failed");
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_share_a_fault_log_it_once() {
        let fault = || Arc::new(StoreError::Unreachable(sqlx::Error::PoolTimedOut));
        let (faults, first, second) = (Faults::default(), fault(), fault());
        let log = |fault| faults.log("deduct", fault);
        assert_eq!(
            (log(&first), log(&first), log(&second), log(&first)),
            (true, false, true, false)
        );
        let many: Vec<_> = (0..REMEMBERED_MAX).map(|_| fault()).collect();
        assert!(many.iter().all(log), "each is another one");
        assert_eq!(faults.logged.lock().unwrap().len(), REMEMBERED_MAX);
    }
}
