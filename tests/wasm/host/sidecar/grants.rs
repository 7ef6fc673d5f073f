//! Wants: granted, refused, or met with units that other leases hold.

use farebox_core::grant::{Ask, Decision, Funds, Split, decide};
use farebox_core::lease::Lease;
use farebox_core::money::Nanos;
use farebox_core::wire::{FreeQuota, Grant, LeaseKey, Refusal, SyncRequest, Want};

use super::{FakeSidecar, Granted};

impl FakeSidecar {
    pub(super) fn grant(
        &mut self,
        request: &SyncRequest,
        epoch: u64,
        want: &Want,
        now_ms: u64,
    ) -> Result<Grant, Box<Refusal>> {
        let key = &want.key;
        if !self.prices.contains_key(&key.service) && !self.quotas.contains_key(&key.service) {
            return Err(Box::new(self.refusal(want, 190_205, 1_000, false)));
        }
        let gateway = request.gateway.as_str();
        let open = self.leases.iter().find(|(_, lease)| {
            lease.units.open
                && lease.gateway == gateway
                && lease.epoch == epoch
                && lease.key == *key
        });
        let number = open.map(|(number, _)| *number);
        let drawers = self
            .leases
            .values()
            .filter(|lease| lease.units.open && lease.key.account == key.account);
        let drawers = drawers.count() as u64 + u64::from(number.is_none());
        let funds = self.funds(key);
        let ask = Ask { units: want.units.min(self.grant_max).max(want.min), min: want.min };
        let decision = match decide(funds, ask, drawers) {
            // What a lost answer granted is told again.
            Decision::Short if self.was_lost(want, number) => {
                Decision::Grant { units: Split::NONE, last: true }
            }
            decision => decision,
        };
        let Decision::Grant { units, last } = decision else {
            let soon = self.recall_others(want, number, funds);
            let code = if funds.price.is_some() { 190_102 } else { 190_202 };
            return Err(Box::new(self.refusal(want, code, if soon { 50 } else { 1_000 }, soon)));
        };
        let number = number.unwrap_or_else(|| {
            self.last_lease += 1;
            self.last_lease
        });
        let price = self.price_of(key);
        self.accounts.entry(key.account.clone()).or_default().hold(&key.service, price, units);
        let lease = self.leases.entry(number).or_insert_with(|| Granted {
            gateway: gateway.to_owned(),
            epoch,
            key: key.clone(),
            price,
            units: Lease { open: true, ..Lease::default() },
            in_flight: 0,
            recalled: false,
            reclaim_at: 0,
        });
        lease.units.extend(units);
        lease.reclaim_at = now_ms + 2 * self.ttl_ms;
        let (granted, outstanding) = (lease.units.granted, lease.units.outstanding().total());
        Ok(Grant {
            lease: number,
            key: key.clone(),
            free_units: granted.free,
            paid_units: granted.paid,
            price,
            ttl_ms: self.ttl_ms,
            low_water: (outstanding / 2).max(1),
            is_final: last,
            free_quota: self.free_quota_of(key),
        })
    }

    fn was_lost(&self, want: &Want, number: Option<u64>) -> bool {
        let Some((number, known)) = number.zip(want.known) else { return false };
        let known = if known.lease == number { known.granted } else { 0 };
        known < self.leases[&number].units.granted.total()
    }

    /// Recalls what other leases of the account hold unused, if that and the funds would be enough.
    pub(super) fn recall_others(&mut self, want: &Want, own: Option<u64>, funds: Funds) -> bool {
        let key = &want.key;
        let others: Vec<u64> = self
            .leases
            .iter()
            .filter(|(number, lease)| {
                lease.units.open && Some(**number) != own && lease.key.account == key.account
            })
            .map(|(number, _)| *number)
            .collect();
        let (mut money, mut free) = (funds.available, funds.free_units);
        for number in &others {
            let lease = &self.leases[number];
            let outstanding = lease.units.outstanding();
            let recallable =
                outstanding.take_paid_first(outstanding.total().saturating_sub(lease.in_flight));
            if lease.key.service == key.service {
                free += recallable.free;
            }
            let worth = lease.price.checked_mul(recallable.paid).unwrap_or(Nanos::ZERO);
            money = money.checked_add(worth).unwrap_or(money);
        }
        let total =
            Funds { free_units: free, available: money, price: funds.price }.total().total();
        let helps = want.min <= total;
        if helps {
            for number in others {
                if let Some(lease) = self.leases.get_mut(&number) {
                    lease.recalled |=
                        want.waiting && lease.in_flight < lease.units.outstanding().total();
                }
            }
        }
        helps
    }

    pub(super) fn free_quota_of(&mut self, key: &LeaseKey) -> FreeQuota {
        let account = self.accounts.entry(key.account.clone()).or_default();
        let quota = account.quota(&key.service);
        FreeQuota { total: quota.total, remaining: quota.left(), resets_in_s: 86_400 }
    }

    fn refusal(&mut self, want: &Want, code: u32, retry_after_ms: u64, soon: bool) -> Refusal {
        let funds = self.funds(&want.key);
        Refusal {
            key: want.key.clone(),
            min: want.min,
            soon,
            code,
            retry_after_ms,
            available: funds.available,
            price: funds.price,
            free_quota: self.free_quota_of(&want.key),
        }
    }
}
