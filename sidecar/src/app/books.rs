//! The rows of the accounts that one transaction has locked: loaded, changed in memory, written back together.
//!
//! Nobody else changes an account's balance, quotas and leases while its row is locked, so what is decided here holds
//! when it is written; the statements check it once more.
//!
//! Whoever writes a row of an account writes the account's own row as well. On one server its lock is enough; between the
//! nodes of a cluster that row is what two transactions collide on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::mysql::MySqlConnection;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use farebox_core::id::{AccountId, GatewayId};
use farebox_core::money::Nanos;
use farebox_core::wire::LeaseKey;

use crate::app::Settings;
use crate::store::billing_record::{self, Charged, NewRecord, RecordRefund};
use crate::store::charge_refund::{self, NewChargeRefund};
use crate::store::column::OnCorrupt;
use crate::store::free_quota::{self, NewQuota, Quota, QuotaChange, QuotaKey};
use crate::store::journal_line::{self, JournalLine};
use crate::store::lease::{self, NewLease, State, StoredLease};
use crate::store::ledger_entry::{self, NewLeg};
use crate::store::reservation::{self, NewReservation, Reservation};
use crate::store::tier_usage::{StoredTier, TierKey};
use crate::store::user_balance::{self, Balance, BalanceChange, Wait};
use crate::store::{self, StoreError};

mod call;
mod control;
mod lost;
mod movement;
mod packages;
mod quota;
mod tally;
mod tiers;
mod usage;

pub(super) use movement::{Charge, Reference, price_of};
pub(super) use quota::{NewTotal, new_total};
pub(super) use tally::Tally;
pub(super) use tiers::{TierSize, tier_key};
use usage::NewUsage;

/// How long requests of one account that others have locked try to get it before they stand in line for it.
const OUT_OF_LINE: Duration = Duration::from_millis(200);

/// The longest pause between two attempts to lock what others have locked.
const PAUSE_MAX_MS: u64 = 10;

/// Waits a moment before locks are tried again; each time another, so that nobody keeps in step with somebody else.
pub(super) async fn pause_between_attempts() {
    sleep(Duration::from_millis(rand::random_range(1..=PAUSE_MAX_MS))).await;
}

/// A row as it is stored and as it is to be.
#[derive(Debug, Clone)]
struct Tracked<T> {
    stored: T,
    current: T,
}

impl<T: Clone + PartialEq> Tracked<T> {
    fn new(row: T) -> Self {
        Self { stored: row.clone(), current: row }
    }

    fn is_changed(&self) -> bool {
        self.stored != self.current
    }

    fn saved(&mut self) {
        self.stored = self.current.clone();
    }
}

/// The rows of the accounts that one transaction has locked.
#[derive(Debug, Clone)]
pub(super) struct Books {
    /// The database's clock, read when the locks were held.
    pub(super) now: DateTime<Utc>,
    on_corrupt: OnCorrupt,
    /// Accounts that this transaction creates.
    new: BTreeSet<AccountId>,
    balances: BTreeMap<AccountId, Tracked<Balance>>,
    quotas: BTreeMap<QuotaKey, Tracked<Quota>>,
    tiers: BTreeMap<TierKey, Tracked<StoredTier>>,
    leases: BTreeMap<u64, Tracked<StoredLease>>,
    /// When the processes that fell silent on a lease were last heard of.
    last_seen: BTreeMap<(GatewayId, u64), DateTime<Utc>>,
    reservations: BTreeMap<String, Tracked<Reservation>>,
    charges: BTreeMap<String, Tracked<Charged>>,
    new_reservations: Vec<NewReservation>,
    charge_refunds: Vec<NewChargeRefund>,
    records: Vec<NewRecord>,
    legs: Vec<NewLeg>,
    journal: Vec<JournalLine>,
    /// What is counted once it is committed.
    tally: Tally,
    /// What statistics are told from.
    usage: NewUsage,
    time_zone: chrono_tz::Tz,
    /// Accounts of which rows were written, and not yet their own row: it names what is to be checked, and it makes nodes of
    /// a cluster notice that two of them changed the same account.
    touched: BTreeSet<AccountId>,
}

/// Whether accounts that are missing are created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Create {
    Yes,
    No,
}

/// What is needed of the leases.
#[derive(Debug, Default)]
pub(super) struct LeaseSelection {
    /// Leases by id.
    pub(super) ids: Vec<u64>,
    /// Every open lease of these accounts.
    pub(super) open_of: BTreeSet<AccountId>,
}

impl Books {
    /// Locks the accounts, in order; an account that is missing is created if told.
    pub(super) async fn lock(
        tx: &mut MySqlConnection,
        accounts: &BTreeSet<AccountId>,
        settings: &Settings,
        create: Create,
        on_corrupt: OnCorrupt,
    ) -> Result<Self, StoreError> {
        Self::lock_by(tx, accounts, settings, create, Wait::Yes, on_corrupt).await
    }

    /// Locks all of the accounts, in order, and creates those that are missing. When somebody else has one, `None` at once;
    /// the accounts before it stay locked.
    pub(super) async fn lock_all(
        tx: &mut MySqlConnection,
        accounts: &BTreeSet<AccountId>,
        settings: &Settings,
        on_corrupt: OnCorrupt,
    ) -> Result<Option<Self>, StoreError> {
        let mut books = Self::of([], settings, on_corrupt);
        let locked = match books.lock_rows(tx, accounts, Wait::Refuse).await {
            Err(err) if err.is_locked() => return Ok(None),
            locked => locked?,
        };
        let missing: Vec<AccountId> = accounts.difference(&locked).cloned().collect();
        books.create(tx, &missing, settings).await?;
        books.now = store::now(tx).await?;
        Ok(Some(books))
    }

    /// Locks the accounts like [`Self::lock`], and does not stand in line for them at first: it tries again and again. The
    /// database refuses those who try also while somebody stands in line, so where sidecars take turns in a line, messages
    /// of gateways, which only try, would never have the account.
    pub(super) async fn lock_out_of_line(
        tx: &mut MySqlConnection,
        accounts: &BTreeSet<AccountId>,
        settings: &Settings,
        create: Create,
        on_corrupt: OnCorrupt,
    ) -> Result<Self, StoreError> {
        let until = Instant::now() + OUT_OF_LINE;
        while Instant::now() < until {
            match Self::lock_by(tx, accounts, settings, create, Wait::Refuse, on_corrupt).await {
                Err(err) if err.is_locked() => pause_between_attempts().await,
                locked => return locked,
            }
        }
        Self::lock(tx, accounts, settings, create, on_corrupt).await
    }

    async fn lock_by(
        tx: &mut MySqlConnection,
        accounts: &BTreeSet<AccountId>,
        settings: &Settings,
        create: Create,
        wait: Wait,
        on_corrupt: OnCorrupt,
    ) -> Result<Self, StoreError> {
        let sorted: Vec<&AccountId> = accounts.iter().collect();
        let rows = user_balance::lock(tx, &sorted, wait, on_corrupt).await?;
        let mut books = Self::of(rows.into_iter().filter_map(|(_, row)| row), settings, on_corrupt);
        if create == Create::Yes {
            let missing: Vec<AccountId> = books.without_row(accounts).cloned().collect();
            books.create(tx, &missing, settings).await?;
        }
        books.now = store::now(tx).await?;
        Ok(books)
    }

    /// Locks the accounts that nobody else has locked, in order, and creates those of `creatable` that are missing. The
    /// accounts that others have locked come second: they are not waited for.
    pub(super) async fn lock_free(
        tx: &mut MySqlConnection,
        accounts: &BTreeSet<AccountId>,
        creatable: &BTreeSet<AccountId>,
        settings: &Settings,
        on_corrupt: OnCorrupt,
    ) -> Result<(Self, BTreeSet<AccountId>), StoreError> {
        let mut books = Self::of([], settings, on_corrupt);
        let locked = books.lock_rows(tx, accounts, Wait::No).await?;
        let without: Vec<&AccountId> = accounts.difference(&locked).collect();
        let taken: BTreeSet<AccountId> =
            user_balance::existing(tx, &without).await?.into_iter().collect();
        let missing: Vec<AccountId> = without
            .into_iter()
            .filter(|&account| !taken.contains(account) && creatable.contains(account))
            .cloned()
            .collect();
        books.create(tx, &missing, settings).await?;
        books.now = store::now(tx).await?;
        Ok((books, taken))
    }

    /// Tries again to lock accounts that others had locked. Those that they still have locked come back.
    pub(super) async fn lock_more(
        &mut self,
        tx: &mut MySqlConnection,
        mut taken: BTreeSet<AccountId>,
    ) -> Result<BTreeSet<AccountId>, StoreError> {
        let locked = self.lock_rows(tx, &taken, Wait::No).await?;
        taken.retain(|account| !locked.contains(account));
        self.now = store::now(tx).await?;
        Ok(taken)
    }

    /// Locks accounts in order; a row that cannot be read is locked as well.
    async fn lock_rows(
        &mut self,
        tx: &mut MySqlConnection,
        accounts: &BTreeSet<AccountId>,
        wait: Wait,
    ) -> Result<BTreeSet<AccountId>, StoreError> {
        let sorted: Vec<&AccountId> = accounts.iter().collect();
        let rows = user_balance::lock(tx, &sorted, wait, self.on_corrupt).await?;
        let locked = rows.iter().map(|(account, _)| account.clone()).collect();
        let readable = rows.into_iter().filter_map(|(account, row)| Some((account, row?)));
        self.balances.extend(readable.map(|(account, row)| (account, Tracked::new(row))));
        Ok(locked)
    }

    /// Reads the accounts that exist without locking them, for a decision that is only told.
    pub(super) async fn peek(
        tx: &mut MySqlConnection,
        accounts: &BTreeSet<AccountId>,
        settings: &Settings,
        on_corrupt: OnCorrupt,
    ) -> Result<Self, StoreError> {
        let sorted: Vec<&AccountId> = accounts.iter().collect();
        let balances = user_balance::find_all(tx, &sorted, on_corrupt).await?;
        Ok(Self { now: store::now(tx).await?, ..Self::of(balances, settings, on_corrupt) })
    }

    fn of(
        balances: impl IntoIterator<Item = Balance>,
        settings: &Settings,
        on_corrupt: OnCorrupt,
    ) -> Self {
        Self {
            now: DateTime::UNIX_EPOCH,
            on_corrupt,
            new: BTreeSet::new(),
            balances: balances
                .into_iter()
                .map(|row| (row.account.clone(), Tracked::new(row)))
                .collect(),
            quotas: BTreeMap::new(),
            tiers: BTreeMap::new(),
            leases: BTreeMap::new(),
            last_seen: BTreeMap::new(),
            reservations: BTreeMap::new(),
            charges: BTreeMap::new(),
            new_reservations: Vec::new(),
            charge_refunds: Vec::new(),
            records: Vec::new(),
            legs: Vec::new(),
            journal: Vec::new(),
            tally: Tally::default(),
            usage: NewUsage::default(),
            time_zone: settings.time_zone,
            touched: BTreeSet::new(),
        }
    }

    fn without_row<'a>(
        &self,
        accounts: &'a BTreeSet<AccountId>,
    ) -> impl Iterator<Item = &'a AccountId> {
        accounts.iter().filter(|account| !self.balances.contains_key(*account))
    }

    /// Creates the rows of accounts that have none and locks them.
    async fn create(
        &mut self,
        tx: &mut MySqlConnection,
        accounts: &[AccountId],
        settings: &Settings,
    ) -> Result<(), StoreError> {
        if accounts.is_empty() {
            return Ok(());
        }
        let rows: Vec<(String, &AccountId)> =
            accounts.iter().map(|account| (new_id(), account)).collect();
        user_balance::create(tx, &rows, &settings.currency).await?;
        let sorted: Vec<&AccountId> = accounts.iter().collect();
        for (account, row) in user_balance::lock(tx, &sorted, Wait::Yes, self.on_corrupt).await? {
            self.balances.extend(row.map(|row| (account, Tracked::new(row))));
        }
        self.new.extend(accounts.iter().cloned());
        Ok(())
    }

    /// Loads leases of locked accounts, and the quotas that they hold units of.
    pub(super) async fn load_leases(
        &mut self,
        tx: &mut MySqlConnection,
        selection: &LeaseSelection,
    ) -> Result<(), StoreError> {
        let open_of: Vec<&AccountId> = selection.open_of.iter().collect();
        let mut leases = lease::find(tx, &selection.ids, self.on_corrupt).await?;
        leases.extend(lease::find_open(tx, &open_of, self.on_corrupt).await?);
        let quotas: BTreeSet<QuotaKey> = leases.iter().map(quota_key).collect();
        let counted = leases.iter().filter(|lease| lease.is_counted);
        let tiers =
            counted.filter_map(|lease| Some(tier_key(&quota_key(lease), lease.price_version?)));
        self.load_tiers(tx, tiers.collect()).await?;
        for lease in leases {
            // A lease that appeared between finding its account and locking it belongs to an account that is not locked.
            if self.balances.contains_key(&lease.key.account) {
                // One that was loaded before may have changed in memory since.
                self.leases.entry(lease.id).or_insert_with(|| Tracked::new(lease));
            }
        }
        self.load_quotas(tx, &quotas).await
    }

    /// Loads quotas as far as they exist.
    pub(super) async fn load_quotas(
        &mut self,
        tx: &mut MySqlConnection,
        keys: &BTreeSet<QuotaKey>,
    ) -> Result<(), StoreError> {
        let missing: Vec<&QuotaKey> =
            keys.iter().filter(|key| !self.quotas.contains_key(*key)).collect();
        for quota in free_quota::find(tx, &missing, self.on_corrupt).await? {
            self.quotas.insert(quota.key.clone(), Tracked::new(quota));
        }
        Ok(())
    }

    /// Has what does not exist as it would be created, for a decision that is only told.
    pub(super) fn imagine(
        &mut self,
        accounts: &BTreeSet<AccountId>,
        quotas: &BTreeSet<QuotaKey>,
        settings: &Settings,
    ) {
        for account in accounts {
            let balance = || Balance {
                account: account.clone(),
                balance: Nanos::ZERO,
                held: Nanos::ZERO,
                receivable: Nanos::ZERO,
                credit_limit: Nanos::ZERO,
                currency: settings.currency.clone(),
                entry_seq: 0,
                frozen: None,
            };
            self.balances.entry(account.clone()).or_insert_with(|| Tracked::new(balance()));
        }
        for key in quotas {
            let total = settings.free_quotas.get(&key.service).copied().unwrap_or(0);
            self.quotas.entry(key.clone()).or_insert_with(|| Tracked::new(quota::new(key, total)));
        }
        self.begin_prepared(quotas, settings);
    }

    /// Loads quotas and creates those that do not exist, with what the settings give.
    pub(super) async fn load_or_create_quotas(
        &mut self,
        tx: &mut MySqlConnection,
        keys: &BTreeSet<QuotaKey>,
        settings: &Settings,
    ) -> Result<(), StoreError> {
        self.load_quotas(tx, keys).await?;
        self.begin_prepared(keys, settings);
        let total = |key: &QuotaKey| settings.free_quotas.get(&key.service).copied().unwrap_or(0);
        let new: Vec<NewQuota<'_>> = keys
            .iter()
            .filter(|key| {
                !self.quotas.contains_key(*key) && self.balances.contains_key(&key.account)
            })
            .map(|key| NewQuota { id: new_id(), key, total: total(key) })
            .collect();
        free_quota::create(tx, &new).await?;
        for NewQuota { key, total, .. } in new {
            self.touched.insert(key.account.clone());
            self.quotas.insert(key.clone(), Tracked::new(quota::new(key, total)));
        }
        Ok(())
    }

    /// Whether this transaction creates the account.
    pub(super) fn is_new(&self, account: &AccountId) -> bool {
        self.new.contains(account)
    }

    /// Whether the account was loaded.
    pub(super) fn has(&self, account: &AccountId) -> bool {
        self.balances.contains_key(account)
    }

    /// The account's money.
    pub(super) fn balance(&self, account: &AccountId) -> Result<&Balance, StoreError> {
        match self.balances.get(account) {
            Some(balance) => Ok(&balance.current),
            None => Err(missing("user_balance", account.to_string())),
        }
    }

    fn balance_mut(&mut self, account: &AccountId) -> Result<&mut Balance, StoreError> {
        match self.balances.get_mut(account) {
            Some(balance) => Ok(&mut balance.current),
            None => Err(missing("user_balance", account.to_string())),
        }
    }

    /// The quota, when it was loaded.
    pub(super) fn quota(&self, key: &QuotaKey) -> Option<&Quota> {
        self.quotas.get(key).map(|quota| &quota.current)
    }

    fn quota_mut(&mut self, key: &QuotaKey) -> Result<&mut Quota, StoreError> {
        match self.quotas.get_mut(key) {
            Some(quota) => Ok(&mut quota.current),
            None => {
                Err(missing("free_quota", format!("{} {} {}", key.account, key.service, key.month)))
            }
        }
    }

    /// The lease, when it was loaded.
    pub(super) fn lease(&self, id: u64) -> Option<&StoredLease> {
        self.leases.get(&id).map(|lease| &lease.current)
    }

    pub(super) fn lease_mut(&mut self, id: u64) -> Result<&mut StoredLease, StoreError> {
        match self.leases.get_mut(&id) {
            Some(lease) => Ok(&mut lease.current),
            None => Err(missing("lease", id.to_string())),
        }
    }

    /// The open leases of an account, by id.
    pub(super) fn open_leases<'a>(
        &'a self,
        account: &'a AccountId,
    ) -> impl Iterator<Item = &'a StoredLease> {
        self.leases
            .values()
            .map(|lease| &lease.current)
            .filter(move |lease| lease.units.open && lease.key.account == *account)
    }

    /// Writes a lease that begins, and what changed before it: the lease that it follows may have had the same key.
    pub(super) async fn insert_lease(
        &mut self,
        tx: &mut MySqlConnection,
        new: NewLease,
    ) -> Result<u64, StoreError> {
        self.store_leases(tx).await?;
        self.touched.insert(new.key.account.clone());
        let id = lease::insert(tx, &new).await?;
        let lease = StoredLease {
            id,
            gateway: new.gateway,
            epoch: new.epoch,
            key: new.key,
            price: new.price,
            price_version: new.price_version,
            is_counted: new.is_counted,
            month: new.month,
            units: farebox_core::lease::Lease {
                granted: new.granted,
                open: true,
                ..Default::default()
            },
            lost_record: None,
            in_flight: 0,
            state: State::Open,
            recall: false,
            not_after: new.not_after,
            reclaim_at: new.reclaim_at,
            renewed_at: new.renewed_at,
            is_named: false,
            is_followed: false,
        };
        self.leases.insert(id, Tracked::new(lease));
        Ok(id)
    }

    /// Notes a journal line's new total.
    pub(super) fn write_journal_line(&mut self, line: JournalLine) {
        self.journal.push(line);
    }

    /// Writes everything that changed; the balances last.
    pub(super) async fn store(&mut self, tx: &mut MySqlConnection) -> Result<(), StoreError> {
        self.give_packages_back(tx).await?;
        self.note_touched();
        billing_record::insert(tx, &self.records).await?;
        ledger_entry::insert(tx, &self.legs).await?;
        journal_line::upsert(tx, &self.journal).await?;
        self.records.clear();
        self.legs.clear();
        self.journal.clear();
        self.store_usage(tx).await?;
        self.store_calls(tx).await?;
        self.store_leases(tx).await?;
        self.store_quotas(tx).await?;
        self.store_tiers(tx).await?;
        self.store_balances(tx).await
    }

    /// Notes whose rows are about to be written. A lease that was only heard of again says nothing new about its account.
    fn note_touched(&mut self) {
        let records = self.records.iter().map(|row| &row.account);
        let journal = self.journal.iter().map(|row| &row.account);
        let legs = self.legs.iter().map(|row| &row.account);
        let new = self.new_reservations.iter().map(|row| &row.account);
        let refunds = self.charge_refunds.iter().map(|row| &row.account);
        let reservations = changed(self.reservations.values()).map(|row| &row.account);
        let charges = changed(self.charges.values()).map(|row| &row.account);
        let quotas = changed(self.quotas.values()).map(|quota| &quota.key.account);
        let tiers = changed(self.tiers.values()).map(|tier| &tier.key.account);
        let calls = new.chain(reservations).chain(charges).chain(refunds);
        let accounts = records.chain(journal).chain(legs).chain(calls).chain(quotas).chain(tiers);
        self.touched.extend(accounts.cloned());
        self.note_touched_leases();
    }

    fn note_touched_leases(&mut self) {
        let leases = self.leases.values().filter(|row| row.stored.units != row.current.units);
        self.touched.extend(leases.map(|row| row.current.key.account.clone()));
    }

    async fn store_leases(&mut self, tx: &mut MySqlConnection) -> Result<(), StoreError> {
        self.note_touched_leases();
        let changed: Vec<&StoredLease> = self
            .leases
            .values()
            .filter(|lease| lease.is_changed())
            .map(|lease| &lease.current)
            .collect();
        lease::update(tx, &changed).await?;
        self.leases.values_mut().filter(|lease| lease.is_changed()).for_each(Tracked::saved);
        Ok(())
    }

    /// Reservations and refunds.
    async fn store_calls(&mut self, tx: &mut MySqlConnection) -> Result<(), StoreError> {
        reservation::insert(tx, &self.new_reservations).await?;
        charge_refund::insert(tx, &self.charge_refunds).await?;
        self.new_reservations.clear();
        self.charge_refunds.clear();
        let ended = self.reservations.values().filter(|row| row.is_changed());
        let ended: Vec<&Reservation> = ended.map(|row| &row.current).collect();
        reservation::end(tx, &ended).await?;
        self.reservations.values_mut().for_each(Tracked::saved);
        let refunded = self.charges.values().filter(|row| row.is_changed());
        let refunds: Vec<RecordRefund<'_>> = refunded.map(record_refund).collect();
        billing_record::note_refunds(tx, &refunds).await?;
        self.charges.values_mut().for_each(Tracked::saved);
        Ok(())
    }

    async fn store_quotas(&mut self, tx: &mut MySqlConnection) -> Result<(), StoreError> {
        let changes: Vec<QuotaChange<'_>> = self
            .quotas
            .values()
            .filter(|quota| quota.is_changed())
            .map(|Tracked { stored, current }| QuotaChange {
                key: &current.key,
                total: current.total.wrapping_sub(stored.total).cast_signed(),
                used: current.used.wrapping_sub(stored.used).cast_signed(),
                held: current.held.wrapping_sub(stored.held).cast_signed(),
                fence: current.fence,
            })
            .collect();
        free_quota::update(tx, &changes).await?;
        self.quotas.values_mut().filter(|quota| quota.is_changed()).for_each(Tracked::saved);
        Ok(())
    }

    async fn store_balances(&mut self, tx: &mut MySqlConnection) -> Result<(), StoreError> {
        let touched = &self.touched;
        let changes: Vec<BalanceChange<'_>> = self
            .balances
            .values()
            .filter(|row| row.is_changed() || touched.contains(&row.current.account))
            .map(|Tracked { stored, current }| {
                let change = |new: farebox_core::money::Nanos, old| {
                    new.checked_sub(old).ok_or_else(|| out_of_range("change", &current.account))
                };
                Ok(BalanceChange {
                    account: &current.account,
                    balance: change(current.balance, stored.balance)?,
                    held: change(current.held, stored.held)?,
                    receivable: change(current.receivable, stored.receivable)?,
                    entries: current.entry_seq.saturating_sub(stored.entry_seq),
                    entry_seq: stored.entry_seq,
                })
            })
            .collect::<Result<_, StoreError>>()?;
        user_balance::update(tx, &changes).await?;
        self.touched.clear();
        self.balances.values_mut().filter(|balance| balance.is_changed()).for_each(Tracked::saved);
        Ok(())
    }
}

/// The rows that are not as they are stored.
fn changed<'a, T: Clone + PartialEq + 'a>(
    rows: impl Iterator<Item = &'a Tracked<T>>,
) -> impl Iterator<Item = &'a T> {
    rows.filter(|row| row.is_changed()).map(|row| &row.current)
}

fn record_refund(Tracked { stored, current }: &Tracked<Charged>) -> RecordRefund<'_> {
    let more = current.refunded.minus(stored.refunded);
    RecordRefund {
        id: &current.id,
        free: more.free,
        paid: more.paid,
        free_before: stored.refunded.free,
        paid_before: stored.refunded.paid,
    }
}

/// The quota that a lease's free units are of.
pub(super) fn quota_key(lease: &StoredLease) -> QuotaKey {
    let LeaseKey { account, service, .. } = &lease.key;
    QuotaKey { account: account.clone(), service: service.clone(), month: lease.month.clone() }
}

/// A new row id that sorts by time.
pub(super) fn new_id() -> String {
    Uuid::now_v7().to_string()
}

fn missing(table: &'static str, key: String) -> StoreError {
    StoreError::Missing { table, key }
}

fn out_of_range(what: &'static str, account: &AccountId) -> StoreError {
    StoreError::OutOfRange { what, key: account.to_string() }
}
