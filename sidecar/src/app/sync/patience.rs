//! Accounts that somebody else has locked: a message waits for them for a moment, then goes on without them.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::mysql::MySqlConnection;
use tokio::time::{Instant, sleep};

use farebox_core::id::AccountId;

use crate::app::Settings;
use crate::app::books::Books;
use crate::app::contention::Contention;
use crate::store::StoreError;
use crate::store::column::OnCorrupt;

/// The pauses between attempts to lock them: 200 ms in all, a small part of the time that the filter waits for the answer.
/// Transactions of traffic take milliseconds.
const PAUSES_MS: [u64; 7] = [5, 10, 15, 25, 35, 50, 60];

/// How long an account that was waited for in vain is not waited for again. While a message waits it keeps its other
/// accounts locked; without this, somebody who keeps one account would slow down all others of that gateway.
const GIVEN_UP_FOR: Duration = Duration::from_secs(1);

/// How long messages wait for accounts.
#[derive(Debug)]
pub(in crate::app) struct Patience {
    given_up: Mutex<Contention>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { given_up: Mutex::new(Contention::new(GIVEN_UP_FOR)) }
    }
}

impl Patience {
    /// Locks the accounts, in order, and creates those that are missing. Those that others keep locked come second.
    ///
    /// No attempt waits for a lock, so a message that has some accounts and wants more is in no deadlock.
    pub(super) async fn lock(
        &self,
        tx: &mut MySqlConnection,
        accounts: &BTreeSet<AccountId>,
        settings: &Settings,
        on_corrupt: OnCorrupt,
    ) -> Result<(Books, BTreeSet<AccountId>), StoreError> {
        let (mut books, mut taken) =
            Books::lock_free(tx, accounts, accounts, settings, on_corrupt).await?;
        for pause in PAUSES_MS {
            if !self.may_wait_for(&taken, Instant::now()) {
                return Ok((books, taken));
            }
            sleep(Duration::from_millis(pause)).await;
            taken = books.lock_more(tx, taken).await?;
        }
        self.give_up(&taken, Instant::now());
        Ok((books, taken))
    }

    /// Whether there is one among them that was not given up lately.
    fn may_wait_for(&self, taken: &BTreeSet<AccountId>, now: Instant) -> bool {
        let given_up = self.given_up();
        taken.iter().any(|account| !given_up.is_contended(account, now))
    }

    fn give_up(&self, taken: &BTreeSet<AccountId>, now: Instant) {
        for account in taken {
            tracing::warn!(account.id = %account, "somebody keeps an account locked; gateways' messages go on without it");
            self.given_up().note(account, now);
        }
    }

    fn given_up(&self) -> MutexGuard<'_, Contention> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(names: &[&str]) -> BTreeSet<AccountId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn what_was_waited_for_in_vain_is_not_waited_for_again_for_a_while() {
        let (patience, now) = (Patience::default(), Instant::now());
        assert!(!patience.may_wait_for(&accounts(&[]), now), "all are had");
        assert!(patience.may_wait_for(&accounts(&["kept"]), now));
        patience.give_up(&accounts(&["kept"]), now);
        assert!(!patience.may_wait_for(&accounts(&["kept"]), now));
        assert!(patience.may_wait_for(&accounts(&["busy", "kept"]), now), "one may be had soon");
        assert!(patience.may_wait_for(&accounts(&["kept"]), now + GIVEN_UP_FOR));
    }
}
