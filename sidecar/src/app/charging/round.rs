//! The requests of one transaction: everything that they need is loaded, then each is decided in memory, then all that
//! changed is written, the rows that others wait for last.
//!
//! `decide` is pure. A check runs it on books that nobody locked, and throws the outcome away: what a check tells and what
//! a deduct does is the same code (T46).

use std::collections::{BTreeMap, BTreeSet};

use sqlx::mysql::MySqlConnection;

use farebox_core::call::Shortfall;
use farebox_core::code::Code;
use farebox_core::id::{AccountId, ServiceName};
use farebox_core::money::Nanos;
use farebox_core::wire::{FreeQuota, LeaseKey};

use super::request::deduct_key;
use super::transaction::Fences;
use super::{CallError, Outcome, Refusal, Request};
use crate::app::Settings;
use crate::app::books::{Books, Create, Tally, TierSize};
use crate::app::terms::PriceList;
use crate::calendar::Month;
use crate::negative::{self, Guard};
use crate::store::StoreError;
use crate::store::column::OnCorrupt;
use crate::store::free_quota::QuotaKey;
use crate::store::idempotency_key::{self, NewAnswer, RequestKey};
use crate::store::tier_usage::TierKey;

mod deduct;
mod refund;
mod reserve;

/// The hash that stands with an answer to whatever comes under its key: a deduct that was undone before it came.
const ANY_CONTENT: [u8; 32] = [0; 32];

/// How a request was decided.
#[derive(Debug, Clone)]
pub(super) enum Decided {
    /// Now.
    Answer(Outcome),
    /// By an earlier request with its key.
    Known(Outcome),
    /// Not at all.
    Failed(CallError),
    /// Leases hold unused what is missing; their gateways are asked to give it back.
    Recalled,
    /// Somebody else has locked the account.
    Locked,
    /// Its time was over before the account was had.
    GivenUp,
    /// A later holder of the account's lock has written, with this fencing number.
    Outrun {
        /// That number.
        by: u64,
    },
    /// It is about a deduct of this very round: next time.
    NextRound,
}

impl Decided {
    /// A refusal that tells this price.
    fn with_price(mut self, price: Option<Nanos>) -> Self {
        if let Self::Answer(Outcome::Refused(refusal)) = &mut self {
            refusal.shortfall.price = price;
        }
        self
    }
}

/// Which accounts a round may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locking {
    /// Those that nobody else has locked.
    Free,
    /// All of them; locks are waited for.
    Wait,
}

impl Decided {
    /// Whether the request's turn is over with it.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Answer(_) | Self::Known(_) | Self::Failed(_) | Self::GivenUp => true,
            Self::Recalled | Self::Locked | Self::Outrun { .. } | Self::NextRound => false,
        }
    }
}

/// An answer that stands under a key.
#[derive(Debug, Clone)]
struct Known {
    content: Vec<u8>,
    outcome: Outcome,
}

fn accounts_of(quotas: &BTreeSet<QuotaKey>) -> BTreeSet<AccountId> {
    quotas.iter().map(|quota| quota.account.clone()).collect()
}

/// The requests of one transaction, being decided.
#[derive(Debug, Clone)]
pub(super) struct Round<'a> {
    settings: &'a Settings,
    month: Month,
    prices: PriceList,
    books: Books,
    /// Accounts that others have locked.
    taken: BTreeSet<AccountId>,
    known: BTreeMap<RequestKey, Known>,
    new: Vec<NewAnswer>,
    /// Accounts of which everything is loaded that could be given back.
    claims: BTreeSet<AccountId>,
    /// Accounts that were found short without it.
    short: BTreeSet<AccountId>,
}

impl<'a> Round<'a> {
    /// Locks the accounts and loads what the requests need; users, services and months that are new get their rows.
    pub(super) async fn load(
        tx: &mut MySqlConnection,
        settings: &'a Settings,
        requests: &[(&Request, &AccountId)],
        locking: Locking,
    ) -> Result<Self, StoreError> {
        let accounts: BTreeSet<AccountId> =
            requests.iter().map(|(_, account)| (*account).clone()).collect();
        let keys: Vec<LeaseKey> = metered_keys(settings, requests);
        let creatable: BTreeSet<AccountId> = keys.iter().map(|key| key.account.clone()).collect();
        let on_corrupt = OnCorrupt::Fail;
        let (books, taken) = match locking {
            Locking::Free => {
                Books::lock_free(tx, &accounts, &creatable, settings, on_corrupt).await?
            }
            Locking::Wait => {
                let create = if accounts == creatable { Create::Yes } else { Create::No };
                (
                    Books::lock_out_of_line(tx, &accounts, settings, create, on_corrupt).await?,
                    BTreeSet::new(),
                )
            }
        };
        let keys: Vec<&LeaseKey> = keys.iter().filter(|key| books.has(&key.account)).collect();
        let prices = PriceList::load(tx, books.now, &keys, on_corrupt).await?;
        let mut round = Self::on(books, prices, settings);
        round.taken = taken;
        let quotas = keys.iter().map(|key| round.quota(&key.account, &key.service)).collect();
        round.books.load_or_create_quotas(tx, &quotas, settings).await?;
        let tiers = round.counted(&keys).into_iter().collect();
        round.books.load_or_create_tiers(tx, tiers).await?;
        round.load_known(tx, requests).await?;
        Ok(round)
    }

    /// Reads what the requests need, as it stands; nothing is locked, and nothing can be stored. Requests are deducts.
    pub(super) async fn peek(
        tx: &mut MySqlConnection,
        settings: &'a Settings,
        keys: &[&LeaseKey],
    ) -> Result<Self, StoreError> {
        let accounts = keys.iter().map(|key| key.account.clone()).collect();
        let books = Books::peek(tx, &accounts, settings, OnCorrupt::Fail).await?;
        let prices = PriceList::peek(tx, books.now, keys, OnCorrupt::Fail).await?;
        let mut round = Self::on(books, prices, settings);
        let quotas = keys.iter().map(|key| round.quota(&key.account, &key.service)).collect();
        round.books.load_quotas(tx, &quotas).await?;
        let tiers = round.counted(keys).into_iter().map(|(key, _)| key).collect();
        round.books.load_tiers(tx, tiers).await?;
        round.books.imagine(&accounts_of(&quotas), &quotas, settings);
        Ok(round)
    }

    /// The tiers that calls of these keys count in, and how many units they have.
    fn counted(&self, keys: &[&LeaseKey]) -> Vec<(TierKey, TierSize)> {
        let counted = |key: &&LeaseKey| {
            let quota = self.quota(&key.account, &key.service);
            self.prices.terms(key).counted(&quota).collect::<Vec<_>>()
        };
        keys.iter().flat_map(counted).collect()
    }

    fn on(books: Books, prices: PriceList, settings: &'a Settings) -> Self {
        Self {
            settings,
            month: Month::at(books.now, settings.time_zone),
            prices,
            books,
            taken: BTreeSet::new(),
            known: BTreeMap::new(),
            new: Vec::new(),
            claims: BTreeSet::new(),
            short: BTreeSet::new(),
        }
    }

    /// Loads earlier answers, and the reservations and charges that the requests are about.
    async fn load_known(
        &mut self,
        tx: &mut MySqlConnection,
        requests: &[(&Request, &AccountId)],
    ) -> Result<(), StoreError> {
        let own = requests.iter().map(|(request, _)| request.key());
        let undone = requests.iter().filter_map(|(request, _)| undone_key(request));
        let keys: BTreeSet<RequestKey> = own.chain(undone).collect();
        let wanted: Vec<&RequestKey> = keys.iter().collect();
        for (key, stored) in idempotency_key::find_all(tx, &wanted).await? {
            let outcome = serde_json::from_str(&stored.response).map_err(|_| {
                let (table, column) = ("idempotency_key", "response");
                StoreError::Corrupt { table, column, key: key.key.clone() }
            })?;
            self.known.insert(key, Known { content: stored.body_hash, outcome });
        }
        let (mut reservations, mut charges) = (Vec::new(), Vec::new());
        for (request, _) in requests {
            match request {
                Request::Commit(request) => reservations.push(request.reservation_id.as_str()),
                Request::Release(request) => reservations.push(request.reservation_id.as_str()),
                Request::Refund(request) => charges.extend(request.record_id.as_deref()),
                Request::Deduct(_) | Request::Reserve(_) => {}
            }
            let undone = undone_key(request).and_then(|key| self.known.get(&key));
            if let Some(Known { outcome: Outcome::Deducted(reply), .. }) = undone {
                charges.push(&reply.record_id);
                charges.extend(reply.record_ids.iter().map(String::as_str));
            }
        }
        self.books.load_calls(tx, &reservations, &charges).await
    }

    /// Decides every request, in order.
    ///
    /// What an account could get back from others is loaded only when one is found short, and then all of it is decided
    /// anew.
    pub(super) async fn decide_all(
        &mut self,
        tx: &mut MySqlConnection,
        requests: &[(&Request, &AccountId)],
    ) -> Result<Vec<Decided>, StoreError> {
        let mut trial = self.clone();
        let decided = trial.run(requests)?;
        if trial.short.is_empty() {
            *self = trial;
            return Ok(decided);
        }
        self.load_claims(tx, trial.short).await?;
        self.run(requests)
    }

    /// Loads what these accounts could get back.
    pub(super) async fn load_claims(
        &mut self,
        tx: &mut MySqlConnection,
        accounts: BTreeSet<AccountId>,
    ) -> Result<(), StoreError> {
        self.books.load_claims(tx, &accounts).await?;
        self.claims.extend(accounts);
        Ok(())
    }

    /// What was lost with leases that this round took back.
    pub(super) fn tally(&self) -> Tally {
        self.books.tally()
    }

    /// Whether the account could be locked.
    pub(super) fn has(&self, account: &AccountId) -> bool {
        !self.taken.contains(account)
    }

    /// The accounts that were found short.
    pub(super) fn short(&self) -> &BTreeSet<AccountId> {
        &self.short
    }

    fn run(&mut self, requests: &[(&Request, &AccountId)]) -> Result<Vec<Decided>, StoreError> {
        requests.iter().map(|(request, account)| self.decide(request, account)).collect()
    }

    /// Decides one request.
    pub(super) fn decide(
        &mut self,
        request: &Request,
        account: &AccountId,
    ) -> Result<Decided, StoreError> {
        if !self.has(account) {
            return Ok(Decided::Locked);
        }
        let (key, content) = (request.key(), request.content_hash());
        if let Some(known) = self.known.get(&key).filter(|_| !negative::is_off(Guard::Keys)) {
            let fits = known.content == content || known.content == ANY_CONTENT;
            return Ok(if fits {
                Decided::Known(known.outcome.clone())
            } else {
                Decided::Failed(CallError::KeyReused { key: key.key })
            });
        }
        let decided = match request {
            Request::Deduct(request) => self.deduct(request)?,
            Request::Reserve(request) => self.reserve(request)?,
            Request::Commit(request) => self.commit(request)?,
            Request::Release(request) => self.release(request)?,
            Request::Refund(request) => self.refund(request, account)?,
        };
        let is_new = !self.known.contains_key(&key);
        if let Decided::Answer(outcome) = &decided
            && is_new
        {
            self.keep(key, &content, outcome);
        }
        Ok(decided)
    }

    /// Keeps an answer for those who ask again.
    fn keep(&mut self, key: RequestKey, content: &[u8; 32], outcome: &Outcome) {
        // Texts and numbers always have a JSON text.
        let response = serde_json::to_string(outcome).unwrap_or_default();
        self.new.push(NewAnswer::new(key.clone(), content, response));
        self.known.insert(key, Known { content: content.to_vec(), outcome: outcome.clone() });
    }

    /// Marks an account's quotas with the fencing numbers of the locks that this round is decided under.
    pub(super) fn fence(&mut self, account: &AccountId, fences: &Fences) -> Result<(), StoreError> {
        for (service, number) in fences {
            let quota = self.quota(account, service);
            if self.books.quota(&quota).is_some() {
                self.books.fence(&quota, *number)?;
            }
        }
        Ok(())
    }

    /// Writes answers and books.
    pub(super) async fn store(&mut self, tx: &mut MySqlConnection) -> Result<(), StoreError> {
        idempotency_key::insert_all(tx, &self.new).await?;
        self.new.clear();
        self.books.store(tx).await
    }

    // === What the requests share

    fn quota(&self, account: &AccountId, service: &ServiceName) -> QuotaKey {
        QuotaKey {
            account: account.clone(),
            service: service.clone(),
            month: self.month.text.clone(),
        }
    }

    /// The balance and the part of it that nothing holds; nothing for an account that does not exist.
    fn money(&self, account: &AccountId) -> Result<(Nanos, Nanos, String), StoreError> {
        if !self.books.has(account) {
            return Ok((Nanos::ZERO, Nanos::ZERO, self.settings.currency.clone()));
        }
        let balance = self.books.balance(account)?;
        let back = self.books.coming_back(account)?;
        let told = balance.balance.checked_add(back).unwrap_or(Nanos::MAX);
        Ok((told, self.books.available(account)?, balance.currency.clone()))
    }

    /// A service that the operator neither priced nor gave a quota.
    fn refuse_unknown(&self) -> Decided {
        let shortfall = Shortfall {
            remaining_free: 0,
            available: Nanos::ZERO,
            cost: Nanos::ZERO,
            price: None,
            free_quota: FreeQuota::default(),
        };
        let code = Code::UnknownService.number();
        Decided::Answer(Outcome::Refused(Refusal { code, shortfall }))
    }
}

/// What the deducts and reserves among the requests are charged as, without services that are not metered.
fn metered_keys(settings: &Settings, requests: &[(&Request, &AccountId)]) -> Vec<LeaseKey> {
    let key = |(request, account): &(&Request, &AccountId)| {
        let (service, price) = match request {
            Request::Deduct(request) => (&request.service, request.price),
            Request::Reserve(request) => (&request.service, request.price),
            Request::Commit(_) | Request::Release(_) | Request::Refund(_) => return None,
        };
        let account = (*account).clone();
        settings.is_metered(service).then(|| LeaseKey { account, service: service.clone(), price })
    };
    requests.iter().filter_map(key).collect()
}

/// The key of the deduct that a request undoes.
fn undone_key(request: &Request) -> Option<RequestKey> {
    match request {
        Request::Refund(request) => request.deduct_key.as_deref().map(deduct_key),
        _ => None,
    }
}
