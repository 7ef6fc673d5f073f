//! Accounts that somebody else has locked: a message waits for them for a moment, then goes on without them.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::mysql::MySqlConnection;
use tokio::time::Instant;

use farebox_core::id::AccountId;

use crate::app::Settings;
use crate::app::books::{Books, pause_between_attempts};
use crate::app::contention::Contention;
use crate::store::StoreError;
use crate::store::column::OnCorrupt;

/// How long a message tries to lock all of its accounts: less than the filter waits for the answer. Transactions of traffic
/// take milliseconds, and a few may be before it.
const WAIT: Duration = Duration::from_millis(600);

/// How long an account that was waited for in vain is not waited for again. While a message waits it keeps accounts locked;
/// without this, somebody who keeps one account would slow down all others of that gateway.
const GIVEN_UP_FOR: Duration = Duration::from_secs(2);

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
    /// Locks the accounts, and creates those that are missing. Those that others keep locked come second.
    ///
    /// Accounts are locked in order, as by everybody: who waits for one has none behind it, so two messages that want the
    /// same ones do not wait for each other. Those that were given up come last, and are not waited for.
    pub(super) async fn lock(
        &self,
        tx: &mut MySqlConnection,
        accounts: &BTreeSet<AccountId>,
        settings: &Settings,
        on_corrupt: OnCorrupt,
    ) -> Result<(Books, BTreeSet<AccountId>), StoreError> {
        let (given_up, awaited) = self.divide(accounts, Instant::now());
        let until = Instant::now() + WAIT;
        let (mut books, mut taken) = loop {
            if let Some(books) = Books::lock_all(tx, &awaited, settings, on_corrupt).await? {
                break (books, BTreeSet::new());
            }
            if until <= Instant::now() {
                let had = Books::lock_free(tx, &awaited, &awaited, settings, on_corrupt).await?;
                self.give_up(&had.1, Instant::now());
                break had;
            }
            pause_between_attempts().await;
        };
        if !given_up.is_empty() {
            taken.append(&mut books.lock_more(tx, given_up).await?);
        }
        Ok((books, taken))
    }

    /// The accounts that were given up lately, and the others.
    fn divide(
        &self,
        accounts: &BTreeSet<AccountId>,
        now: Instant,
    ) -> (BTreeSet<AccountId>, BTreeSet<AccountId>) {
        let given_up = self.given_up();
        accounts.iter().cloned().partition(|account| given_up.is_contended(account, now))
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
        let (kept, free) = (accounts(&["kept"]), accounts(&["free"]));
        let both = accounts(&["free", "kept"]);
        assert_eq!(patience.divide(&both, now), (accounts(&[]), both.clone()));
        patience.give_up(&kept, now);
        assert_eq!(patience.divide(&both, now), (kept, free));
        assert_eq!(patience.divide(&both, now + GIVEN_UP_FOR), (accounts(&[]), both));
    }
}
