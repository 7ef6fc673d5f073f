//! Wants: granted, answered "soon" while other leases hold what is missing, or refused.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};
use sqlx::mysql::MySqlConnection;

use farebox_core::charge;
use farebox_core::code::Code;
use farebox_core::grant::{Ask, Decision, Funds, Split, decide};
use farebox_core::limits::{GRANT_MAX, LEASE_TOTAL_MAX};
use farebox_core::money::Nanos;
use farebox_core::wire::{FreeQuota, Grant, LeaseKey, Refusal, Want};

use crate::app::funds::{self, Pool};
use crate::app::sync::batch::Batch;
use crate::app::sync::quota_of;
use crate::app::terms::Terms;
use crate::store::StoreError;
use crate::store::free_quota::QuotaKey;
use crate::store::lease::{NewLease, State};

/// When to ask again while other leases hold what is missing, or somebody else has locked the account: about the time that the
/// other gateways need to answer a recall.
const SOON_MS: u64 = 50;

/// When to ask again after a refusal: a recharge works within this time.
const REFUSED_MS: u64 = 1_000;

/// A want with what decides about it.
struct Case<'a> {
    want: &'a Want,
    terms: Terms,
    quota: QuotaKey,
    funds: Funds,
}

impl Batch<'_> {
    /// Grants what is wanted, or says why not.
    pub(super) async fn serve(
        &mut self,
        tx: &mut MySqlConnection,
        want: &Want,
    ) -> Result<(), StoreError> {
        if !self.settings.is_metered(&want.key.service) {
            self.refuse_unknown(want);
            return Ok(());
        }
        let terms = self.prices.terms(&want.key);
        let quota = quota_of(&want.key, &self.month);
        let current = self.current_lease(&want.key, terms)?;
        let funds = funds::own(&self.books, &quota, terms.price)?;
        let mut case = Case { want, terms, quota, funds };
        let mut decision = self.decide(&case, current);
        if decision == Decision::Short {
            let account = BTreeSet::from([case.quota.account.clone()]);
            self.books.load_overdue(tx, &account).await?;
            if self.books.end_overdue(&case.quota.account, current, self.settings)? {
                case.funds = funds::own(&self.books, &case.quota, terms.price)?;
                decision = self.decide(&case, current);
            }
        }
        match decision {
            Decision::Grant { units, last } => {
                self.books.hold(&case.quota, terms.price.unwrap_or(Nanos::ZERO), units)?;
                let id = match current {
                    Some(id) => self.extend(id, units)?,
                    None => self.open(tx, &case, units).await?,
                };
                self.granted.push(units.total());
                self.grant(id, &case, last)
            }
            Decision::Short => self.recall_or_refuse(&case, current),
        }
    }

    fn decide(&self, case: &Case<'_>, current: Option<u64>) -> Decision {
        let Case { want, quota, funds, .. } = case;
        let others =
            self.books.open_leases(&quota.account).filter(|lease| Some(lease.id) != current);
        let drawers = others.count().saturating_add(1) as u64;
        decide(*funds, Ask { units: want.units, min: want.min }, drawers)
    }

    /// The open lease of this process for the key. One whose month, price or total is over is ended instead.
    fn current_lease(&mut self, key: &LeaseKey, terms: Terms) -> Result<Option<u64>, StoreError> {
        let found = self.books.open_leases(&key.account).find(|lease| {
            lease.gateway == self.request.gateway && lease.epoch == self.epoch && lease.key == *key
        });
        let Some(lease) = found else { return Ok(None) };
        let is_current = lease.month == self.month.text
            && lease.price_version == terms.price_version
            && lease.not_after.is_none_or(|end| self.books.now < end)
            // A change of the price that was set while the lease was made bounds it, too.
            && terms.until.is_none_or(|until| lease.not_after.is_some_and(|end| end <= until))
            && lease.units.granted.total().saturating_add(GRANT_MAX) <= LEASE_TOTAL_MAX;
        let id = lease.id;
        if is_current {
            return Ok(Some(id));
        }
        self.books.end_lease(id, State::Closed)?;
        Ok(None)
    }

    fn extend(&mut self, id: u64, units: Split) -> Result<u64, StoreError> {
        let (reclaim_at, renewed_at) = (self.reclaim_at(), self.books.now);
        let lease = self.books.lease_mut(id)?;
        lease.units.extend(units);
        lease.reclaim_at = reclaim_at;
        lease.renewed_at = renewed_at;
        Ok(id)
    }

    async fn open(
        &mut self,
        tx: &mut MySqlConnection,
        case: &Case<'_>,
        units: Split,
    ) -> Result<u64, StoreError> {
        let key = &case.want.key;
        self.prices.hold_still(tx, key).await?;
        let month_end = self.month.ends_at;
        let new = NewLease {
            gateway: self.request.gateway.clone(),
            epoch: self.epoch,
            key: key.clone(),
            open_key: open_key(key),
            price: case.terms.price.unwrap_or(Nanos::ZERO),
            price_version: case.terms.price_version,
            month: self.month.text.clone(),
            granted: units,
            not_after: Some(case.terms.until.map_or(month_end, |until| until.min(month_end))),
            reclaim_at: self.reclaim_at(),
            renewed_at: self.books.now,
        };
        self.books.insert_lease(tx, new).await
    }

    fn grant(&mut self, id: u64, case: &Case<'_>, last: bool) -> Result<(), StoreError> {
        let lease = self.books.lease_mut(id)?.clone();
        let grant = Grant {
            lease: id,
            key: lease.key,
            free_units: lease.units.granted.free,
            paid_units: lease.units.granted.paid,
            price: lease.price,
            ttl_ms: self.ttl_ms(lease.not_after),
            low_water: lease.units.outstanding().total().div_euclid(2).max(1),
            is_final: last,
            free_quota: funds::free_quota(&self.books, &case.quota, &self.month),
        };
        self.reply.grants.push(grant);
        Ok(())
    }

    /// The account cannot meet the want by itself. When units that other leases hold unused would, it may ask again
    /// soon; they are recalled only for a call that waits. A refill ahead of need must not: two gateways that share the
    /// last units of an account would take them from each other without end.
    fn recall_or_refuse(
        &mut self,
        case: &Case<'_>,
        current: Option<u64>,
    ) -> Result<(), StoreError> {
        if let Some(id) = current.filter(|&id| self.was_lost(case.want, id)) {
            // Those units are the gateway's already: it needs to hear of them, and nothing more.
            let id = self.extend(id, Split::NONE)?;
            return self.grant(id, case, true);
        }
        let pool = Pool::of(&self.books, &case.quota, case.terms.price.is_some(), current);
        let soon =
            !pool.leases.is_empty() && case.want.min <= pool.added_to(case.funds).total().total();
        if soon && case.want.waiting {
            pool.recall(&mut self.books)?;
        }
        let refusal = self.refusal(case, soon);
        self.reply.refusals.push(refusal);
        Ok(())
    }

    /// Whether the gateway was granted more of its lease than it knows of: the answer with the grant never arrived.
    fn was_lost(&self, want: &Want, lease: u64) -> bool {
        let Some(known) = want.known else { return false };
        let known = if known.lease == lease { known.granted } else { 0 };
        self.books.lease(lease).is_some_and(|lease| known < lease.units.granted.total())
    }

    fn refusal(&self, case: &Case<'_>, soon: bool) -> Refusal {
        let code = charge::code_of_short(case.terms.price);
        Refusal {
            key: case.want.key.clone(),
            min: case.want.min,
            soon,
            code: code.number(),
            retry_after_ms: retry_after_ms(soon),
            available: case.funds.available,
            price: case.terms.price,
            free_quota: funds::free_quota(&self.books, &case.quota, &self.month),
        }
    }

    /// Nothing is free by mistake: a service that the operator neither priced nor gave a quota is refused.
    fn refuse_unknown(&mut self, want: &Want) {
        self.refuse_unread(want, Code::UnknownService, false);
    }

    /// Somebody else has locked the account: what it has is not known, and callers go on waiting.
    pub(super) fn refuse_taken(&mut self, want: &Want) {
        self.refuse_unread(want, Code::AccountBusy, true);
    }

    /// A refusal without a look at the account.
    fn refuse_unread(&mut self, want: &Want, code: Code, soon: bool) {
        self.reply.refusals.push(Refusal {
            key: want.key.clone(),
            min: want.min,
            soon,
            code: code.number(),
            retry_after_ms: retry_after_ms(soon),
            available: Nanos::ZERO,
            price: None,
            free_quota: FreeQuota::default(),
        });
    }
}

fn retry_after_ms(soon: bool) -> u64 {
    if soon { SOON_MS } else { REFUSED_MS }
}

/// What makes an open lease unique within its process.
fn open_key(key: &LeaseKey) -> [u8; 32] {
    // A key is made of texts, which always have a JSON text.
    Sha256::digest(serde_json::to_vec(key).unwrap_or_default()).into()
}
