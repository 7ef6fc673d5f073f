//! Wants: granted, answered "soon" while other leases hold what is missing, or refused.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};
use sqlx::mysql::MySqlConnection;

use farebox_core::charge;
use farebox_core::code::Code;
use farebox_core::grant::{Ask, Choice, Decision, Means, Split, choose};
use farebox_core::limits::{GRANT_MAX, LEASE_TOTAL_MAX};
use farebox_core::money::Nanos;
use farebox_core::wire::{FreeQuota, Grant, LeaseKey, Refusal, Want};

use crate::app::books::Charge;
use crate::app::funds::{self, Pool};
use crate::app::sync::batch::Batch;
use crate::app::sync::quota_of;
use crate::app::terms::{Terms, Tier, UnitPrice};
use crate::store::StoreError;
use crate::store::billing_record::Source;
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
    means: Means,
}

/// The open lease of this process for a key, and which tier of the price it is at.
#[derive(Debug, Clone, Copy)]
struct Current {
    id: u64,
    tier: Option<usize>,
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
        let is_frozen = self.books.is_frozen(&want.key.account)?;
        let current = if is_frozen { None } else { self.current_lease(&want.key, &terms)? };
        let means = funds::own(&self.books, &quota, &terms)?;
        let mut case = Case { want, terms, quota, means };
        if is_frozen {
            self.refuse_frozen(&case);
            return Ok(());
        }
        let (mut tier, mut decision) = self.decide(&case, current);
        if decision == Decision::Short {
            let account = BTreeSet::from([case.quota.account.clone()]);
            self.books.load_overdue(tx, &account).await?;
            let keep = current.map(|current| current.id);
            if self.books.end_overdue(&case.quota.account, keep, self.settings)? {
                case.means = funds::own(&self.books, &case.quota, &case.terms)?;
                (tier, decision) = self.decide(&case, current);
            }
        }
        if decision == Decision::Short && self.buy(&mut case)? {
            (tier, decision) = self.decide(&case, current);
        }
        match decision {
            Decision::Grant { units, last } => {
                let at = tier.and_then(|tier| case.terms.tiers.get(tier)).copied();
                let unit_price = at.map_or_else(UnitPrice::default, |tier| tier.unit_price());
                self.books.hold(&case.quota, unit_price, units)?;
                let id = match current {
                    Some(current) if current.tier == tier => self.extend(current.id, units)?,
                    current => {
                        self.follow(current)?;
                        self.open(tx, &case, at, units).await?
                    }
                };
                self.granted.push(units.total());
                self.grant(id, &case, last)
            }
            Decision::Short => self.recall_or_refuse(&case, current),
        }
    }

    /// Buys the packages without which a waiting call cannot go on, if the money is there. A refill ahead of need buys nothing.
    fn buy(&mut self, case: &mut Case<'_>) -> Result<bool, StoreError> {
        let bill = charge::bill(&case.means, case.want.min).filter(|_| case.want.waiting);
        let packages = bill.map_or(0, |bill| bill.packages);
        let Some(after) = case.means.after_buying(packages).filter(|_| 0 < packages) else {
            return Ok(false);
        };
        let charge = Charge {
            message: Some(self.reference()),
            quota: case.quota.clone(),
            unit_price: case.terms.first(),
            source: Source::Package,
            lease: None,
            journal_line: None,
        };
        self.books.buy(&charge, packages)?;
        // On the books they are unneeded until something holds them.
        case.means = after;
        Ok(true)
    }

    /// Decides a grant, and at which tier. A lease is refilled within its tier; a call that it cannot serve gets a lease at
    /// the next tier that has room.
    fn decide(&self, case: &Case<'_>, current: Option<Current>) -> (Option<usize>, Decision) {
        let choice = match current.and_then(|current| current.tier) {
            Some(tier) if case.want.waiting => Choice::Rather(tier),
            Some(tier) => Choice::Only(tier),
            None => Choice::First,
        };
        self.decide_by(case, choice, current)
    }

    fn decide_by(
        &self,
        case: &Case<'_>,
        choice: Choice,
        current: Option<Current>,
    ) -> (Option<usize>, Decision) {
        let Case { want, quota, means, .. } = case;
        let current = current.map(|current| current.id);
        let others =
            self.books.open_leases(&quota.account).filter(|lease| Some(lease.id) != current);
        let drawers = others.count().saturating_add(1) as u64;
        choose(means, choice, Ask { units: want.units, min: want.min }, drawers)
    }

    /// Lets another lease follow, which holds units at another price. What this one holds may be drawn already: it stays
    /// until its gateway has reported it, which the new one makes it do.
    fn follow(&mut self, current: Option<Current>) -> Result<(), StoreError> {
        if let Some(Current { id, .. }) = current {
            let lease = self.books.lease_mut(id)?;
            lease.is_followed = true;
            lease.recall = true;
        }
        Ok(())
    }

    /// The open lease of this process for the key. One whose month, price or total is over is ended instead.
    fn current_lease(
        &mut self,
        key: &LeaseKey,
        terms: &Terms,
    ) -> Result<Option<Current>, StoreError> {
        let found = self.books.open_leases(&key.account).find(|lease| {
            let is_own = lease.gateway == self.request.gateway && lease.epoch == self.epoch;
            is_own && lease.key == *key && !lease.is_followed
        });
        let Some(lease) = found else { return Ok(None) };
        let tier = terms.tier_of(lease.price_version);
        let is_at_this_price =
            if terms.tiers.is_empty() { lease.price_version.is_none() } else { tier.is_some() };
        let is_current = lease.month == self.month.text
            && is_at_this_price
            && lease.not_after.is_none_or(|end| self.books.now < end)
            // A change of the price that was set while the lease was made bounds it, too.
            && terms.until.is_none_or(|until| lease.not_after.is_some_and(|end| end <= until))
            && lease.units.granted.total().saturating_add(GRANT_MAX) <= LEASE_TOTAL_MAX;
        let id = lease.id;
        if is_current {
            return Ok(Some(Current { id, tier }));
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
        tier: Option<Tier>,
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
            price: tier.map_or(Nanos::ZERO, |tier| tier.price),
            price_version: tier.and_then(|tier| tier.version),
            is_counted: tier.is_some_and(|tier| tier.units.is_some()),
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
        current: Option<Current>,
    ) -> Result<(), StoreError> {
        let own = current.map(|current| current.id);
        if let Some(id) = own.filter(|&id| self.was_lost(case.want, id)) {
            // Those units are the gateway's already: it needs to hear of them, and nothing more.
            let id = self.extend(id, Split::NONE)?;
            return self.grant(id, case, true);
        }
        let pool = Pool::of(&self.books, &case.quota, &case.terms, own);
        let reachable = Case {
            want: case.want,
            terms: case.terms.clone(),
            quota: case.quota.clone(),
            means: pool.added_to(&case.means, &case.terms),
        };
        let is_enough = |case: &Case<'_>| {
            let buys =
                charge::bill(&case.means, case.want.min).is_some_and(|bill| 0 < bill.packages);
            buys || self.decide_by(case, Choice::First, current).1 != Decision::Short
        };
        // A refill ahead of need has to stay within its tier; the account has more at the next one.
        let is_at_edge = !case.want.waiting && is_enough(case);
        let soon = is_at_edge || (!pool.leases.is_empty() && is_enough(&reachable));
        if soon && case.want.waiting {
            pool.recall(&mut self.books)?;
        }
        let code = charge::code_of_short(case.means.next().map(|rate| rate.price));
        let refusal = self.refusal(case, code, soon);
        self.reply.refusals.push(refusal);
        Ok(())
    }

    /// Nothing of a frozen account is lent, whatever it has; what gateways hold of it is recalled already. Not one unit would
    /// be granted, so whoever waits for some need not ask.
    fn refuse_frozen(&mut self, case: &Case<'_>) {
        let refusal = self.refusal(case, Code::AccountFrozen, false);
        self.reply.refusals.push(Refusal { min: 1, ..refusal });
    }

    /// Whether the gateway was granted more of its lease than it knows of: the answer with the grant never arrived.
    fn was_lost(&self, want: &Want, lease: u64) -> bool {
        let Some(known) = want.known else { return false };
        let known = if known.lease == lease { known.granted } else { 0 };
        self.books.lease(lease).is_some_and(|lease| known < lease.units.granted.total())
    }

    fn refusal(&self, case: &Case<'_>, code: Code, soon: bool) -> Refusal {
        let price = case.means.next().map(|rate| rate.price);
        Refusal {
            key: case.want.key.clone(),
            min: case.want.min,
            soon,
            code: code.number(),
            retry_after_ms: retry_after_ms(soon),
            available: case.means.available,
            price,
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
