//! The items of one message: journal lines, reports and wants, in this order.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Executor;
use sqlx::mysql::MySqlConnection;

use farebox_core::id::AccountId;
use farebox_core::wire::{JournalReport, LeaseKey, Report, SyncReply, SyncRequest, Want};

use crate::app::books::{Books, LeaseSelection, Reference, Tally};
use crate::app::sync::quota_of;
use crate::app::terms::PriceList;
use crate::app::{App, Settings};
use crate::calendar::Month;
use crate::metrics::{self, SyncItem};
use crate::store::column::OnCorrupt;
use crate::store::journal_line::{self, Booked};
use crate::store::{StoreError, lease};

/// What becomes of the other items when one fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isolation {
    /// All fail; what they change is written together.
    Together,
    /// They go on: each item is written by itself, inside a savepoint.
    ItemByItem,
}

impl Isolation {
    pub(super) fn on_corrupt(self) -> OnCorrupt {
        match self {
            Self::Together => OnCorrupt::Fail,
            Self::ItemByItem => OnCorrupt::Skip,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Item<'a> {
    Journal(&'a JournalReport),
    Report(&'a Report),
    Want(&'a Want),
}

/// What is counted once a message is committed.
#[derive(Debug, Default)]
pub(super) struct Effects {
    tally: Tally,
    left_out: Vec<SyncItem>,
    items: usize,
    granted: Vec<u64>,
    refused: Vec<u32>,
}

impl Effects {
    pub(super) fn count(self, app: &App) {
        self.tally.count(app);
        self.left_out.into_iter().for_each(metrics::left_out);
        self.granted.into_iter().for_each(metrics::granted);
        self.refused.into_iter().for_each(metrics::refused);
        metrics::sync_items(self.items);
    }
}

/// A message being answered.
pub(super) struct Batch<'a> {
    pub(super) settings: &'a Settings,
    pub(super) request: &'a SyncRequest,
    pub(super) epoch: u64,
    pub(super) month: Month,
    pub(super) prices: PriceList,
    /// The reported leases that exist, and whose they are, as far as that can be read.
    pub(super) owners: BTreeMap<u64, Option<AccountId>>,
    /// Accounts that somebody else has locked: what is about them is left out.
    taken: BTreeSet<AccountId>,
    left_out: Vec<SyncItem>,
    /// Units that were granted, by grant.
    pub(super) granted: Vec<u64>,
    /// What is booked, by journal line.
    pub(super) journal: BTreeMap<u64, Booked>,
    pub(super) books: Books,
    pub(super) reply: SyncReply,
}

impl<'a> Batch<'a> {
    /// Locks the accounts that the message names and loads what its items need.
    pub(super) async fn load(
        tx: &mut MySqlConnection,
        app: &'a App,
        request: &'a SyncRequest,
        epoch: u64,
        on_corrupt: OnCorrupt,
    ) -> Result<Self, StoreError> {
        let settings = &*app.settings;
        let wanted = request.wants.iter().map(|want| &want.key);
        let wanted: Vec<&LeaseKey> =
            wanted.filter(|key| settings.is_metered(&key.service)).collect();
        let charged = request.journal.iter().map(|line| &line.key);
        let keys: Vec<&LeaseKey> = wanted.iter().copied().chain(charged).collect();
        let reported: Vec<u64> = request.reports.iter().map(|report| report.lease).collect();

        let owners: BTreeMap<u64, Option<AccountId>> =
            lease::accounts(tx, &reported, on_corrupt).await?.into_iter().collect();
        let named = owners.values().flatten().chain(keys.iter().map(|key| &key.account));
        let accounts = named.cloned().collect();
        let (mut books, taken) = app.patience.lock(tx, &accounts, settings, on_corrupt).await?;
        let open_of = wanted.iter().map(|key| key.account.clone()).collect();
        books.load_leases(tx, &LeaseSelection { ids: reported, open_of }).await?;
        books.load_lost(tx).await?;

        let month = Month::at(books.now, settings.time_zone);
        let quotas = keys.iter().map(|key| quota_of(key, &month)).collect();
        books.load_or_create_quotas(tx, &quotas, settings).await?;
        let prices = PriceList::load(tx, books.now, &keys, on_corrupt).await?;
        let counted =
            |key: &&LeaseKey| prices.terms(key).counted(&quota_of(key, &month)).collect::<Vec<_>>();
        let tiers = keys.iter().flat_map(counted).collect();
        books.load_or_create_tiers(tx, tiers).await?;
        let booked =
            journal_line::find(tx, &request.gateway, &request.instance, &request.journal).await?;
        Ok(Self {
            settings,
            request,
            epoch,
            month,
            prices,
            owners,
            taken,
            left_out: Vec::new(),
            granted: Vec::new(),
            journal: booked.into_iter().collect(),
            books,
            reply: SyncReply { epoch, ..SyncReply::default() },
        })
    }

    pub(super) fn into_reply(self) -> (SyncReply, Effects) {
        let refused = self.reply.refusals.iter().filter(|refusal| !refusal.soon);
        let effects = Effects {
            tally: self.books.tally(),
            left_out: self.left_out,
            items: self.request.reports.len()
                + self.request.wants.len()
                + self.request.journal.len(),
            granted: self.granted,
            refused: refused.map(|refusal| refusal.code).collect(),
        };
        (self.reply, effects)
    }

    /// Takes every item in and writes what changed.
    pub(super) async fn apply_all(
        &mut self,
        tx: &mut MySqlConnection,
        isolation: Isolation,
    ) -> Result<(), StoreError> {
        let SyncRequest { journal, reports, wants, .. } = self.request;
        let items = journal
            .iter()
            .map(Item::Journal)
            .chain(reports.iter().map(Item::Report))
            .chain(wants.iter().map(Item::Want));
        for item in items {
            if self.is_taken(item) {
                self.leave_out(item);
                continue;
            }
            match isolation {
                Isolation::Together => self.apply(tx, item).await?,
                Isolation::ItemByItem => self.apply_alone(tx, item).await?,
            }
        }
        let reports = self.request.reports.iter();
        let unheard = reports.filter(|report| self.is_taken(Item::Report(report)));
        // Who gives a lease back whole has not drawn from it: its grant has found no place, or never arrived.
        let drawn = unheard.filter(|report| !report.close || 0 < report.used + report.in_flight);
        let drawn: Vec<u64> = drawn.map(|report| report.lease).collect();
        lease::note_named(tx, &self.request.gateway, &drawn).await?;
        self.books.store(tx).await
    }

    /// Whether somebody else has locked the account that an item is about.
    fn is_taken(&self, item: Item<'a>) -> bool {
        let account = match item {
            Item::Journal(line) => Some(&line.key.account),
            Item::Report(report) => self.owners.get(&report.lease).and_then(Option::as_ref),
            Item::Want(want) => {
                self.settings.is_metered(&want.key.service).then_some(&want.key.account)
            }
        };
        account.is_some_and(|account| self.taken.contains(account))
    }

    /// Not a word about usage, so that the gateway keeps it and reports it again; who waits for units may ask again soon.
    fn leave_out(&mut self, item: Item<'a>) {
        let kind = match item {
            Item::Journal(_) => SyncItem::Journal,
            Item::Report(_) => SyncItem::Report,
            Item::Want(want) => {
                self.refuse_taken(want);
                SyncItem::Want
            }
        };
        self.left_out.push(kind);
    }

    async fn apply(&mut self, tx: &mut MySqlConnection, item: Item<'a>) -> Result<(), StoreError> {
        match item {
            Item::Journal(line) => self.charge_journal(line),
            Item::Report(report) => self.settle(report),
            Item::Want(want) => self.serve(tx, want).await,
        }
    }

    /// Takes an item in and writes it, or leaves no trace of it.
    async fn apply_alone(
        &mut self,
        tx: &mut MySqlConnection,
        item: Item<'a>,
    ) -> Result<(), StoreError> {
        let (books, reply, journal) =
            (self.books.clone(), self.reply.clone(), self.journal.clone());
        tx.execute("SAVEPOINT item").await?;
        let outcome = match self.apply(tx, item).await {
            Ok(()) => self.books.store(tx).await,
            Err(err) => Err(err),
        };
        match outcome {
            Ok(()) => {
                tx.execute("RELEASE SAVEPOINT item").await?;
                Ok(())
            }
            Err(err) if err.is_row_fault() => {
                tx.execute("ROLLBACK TO SAVEPOINT item").await?;
                (self.books, self.reply, self.journal) = (books, reply, journal);
                tracing::error!(gateway.id = %self.request.gateway, seq = self.request.seq, ?item, error = %err,
                    "an item of a message is left out: repair the row that the error names");
                Ok(())
            }
            Err(err) => Err(err),
        }
    }

    /// The message, for billing records.
    pub(super) fn reference(&self) -> Reference<'a> {
        Reference { gateway: &self.request.gateway, epoch: self.epoch, seq: self.request.seq }
    }

    /// When a lease that is heard of at this moment is taken back, should its gateway fall silent.
    pub(super) fn reclaim_at(&self) -> DateTime<Utc> {
        let twice = TimeDelta::from_std(self.settings.lease_ttl.saturating_mul(2));
        self.books.now + twice.unwrap_or(TimeDelta::MAX)
    }

    /// How long a gateway may spend from a lease without hearing from the sidecar, in milliseconds.
    pub(super) fn ttl_ms(&self, not_after: Option<DateTime<Utc>>) -> u64 {
        let ttl = u64::try_from(self.settings.lease_ttl.as_millis()).unwrap_or(u64::MAX);
        match not_after {
            Some(end) => {
                u64::try_from((end - self.books.now).num_milliseconds()).unwrap_or(0).min(ttl)
            }
            None => ttl,
        }
    }
}
