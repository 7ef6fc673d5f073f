//! One message: usage is settled, units are granted, the reply is kept for repeats.

use farebox_core::grant::{Ask, Decision, Funds, Split, decide};
use farebox_core::lease::{Lease, Usage};
use farebox_core::money::Nanos;
use farebox_core::wire::{
    Ack, FreeQuota, Grant, Recall, Refusal, Report, SyncReply, SyncRequest, Want,
};

use super::{Memory, Terms};
use crate::sidecar::{LeaseRow, TTL_MS};

impl Memory {
    pub(super) fn take_in(&mut self, body: &[u8]) -> (u32, Vec<u8>) {
        let request = match serde_json::from_slice::<SyncRequest>(body) {
            Ok(request) => request,
            Err(err) => return (400, err.to_string().into_bytes()),
        };
        if let Err(err) = request.validate() {
            return (400, err.to_string().into_bytes());
        }
        let gateway = request.gateway.to_string();
        let epoch = self.epoch(&gateway, &request.instance);
        if request.epoch != 0 && request.epoch != epoch {
            return (409, b"this process has another epoch".to_vec());
        }
        let name = (gateway, epoch, request.seq);
        match self.replies.get(&name) {
            Some([known, reply]) if known == body => return (200, reply.clone()),
            Some(_) => return (409, b"this number was used for another message".to_vec()),
            None => {}
        }
        let reply = self.answer(&request, epoch);
        let reply = serde_json::to_vec(&reply).expect("a reply has a JSON text");
        self.replies.insert(name, [body.to_vec(), reply.clone()]);
        (200, reply)
    }

    fn answer(&mut self, request: &SyncRequest, epoch: u64) -> SyncReply {
        let mut reply = SyncReply { epoch, ..SyncReply::default() };
        reply.acks.extend(request.reports.iter().map(|report| self.settle(request, report)));
        for want in &request.wants {
            match self.serve(request, epoch, want) {
                Ok(grant) => reply.grants.push(grant),
                Err(refusal) => reply.refusals.push(*refusal),
            }
        }
        let gateway = request.gateway.as_str();
        let recalled = self
            .open_leases()
            .filter(|(.., terms)| terms.recall && terms.gateway == gateway && terms.epoch == epoch);
        let recall =
            |(lease, _, terms): (u64, &LeaseRow, &Terms)| Recall { lease, key: terms.key.clone() };
        reply.recalls = recalled.map(recall).collect();
        reply
    }

    fn settle(&mut self, request: &SyncRequest, report: &Report) -> Ack {
        let Report { lease, used, in_flight, returned, close } = *report;
        let its_own =
            self.terms.get(&lease).filter(|terms| terms.gateway == request.gateway.as_str());
        let Some(terms) = its_own.cloned() else {
            return Ack { lease, used: 0, open: false, ttl_ms: 0 };
        };
        let row = self.books.leases.get_mut(&lease).expect("a lease with terms was granted");
        let settled = (self.settle)(&mut row.units, Usage { used, returned, close });
        let units = row.units;
        self.hold(lease, settled.used, -1);
        self.charge(lease, settled.used);
        self.hold(lease, settled.released, -1);
        self.charge_late(lease, settled.late);
        // The report may have been on its way before the recall arrived: it stands until something comes back.
        let is_idle = in_flight < units.outstanding().total();
        let is_over = terms.not_after <= self.now_ms;
        let gave_back = settled.released != Split::NONE;
        let ttl_ms = self.ttl_ms(terms.not_after);
        let is_frozen = self.frozen.contains(terms.key.account.as_str());
        let stays_recalled = is_frozen || (terms.recall && !gave_back);
        let recall = units.open && is_idle && (is_over || stays_recalled);
        let reclaim_at = self.now_ms + 2 * TTL_MS;
        self.terms.insert(lease, Terms { in_flight, recall, reclaim_at, ..terms });
        let ttl_ms = if units.open { ttl_ms } else { 0 };
        Ack { lease, used: units.charged(), open: units.open, ttl_ms }
    }

    fn ttl_ms(&self, not_after: u64) -> u64 {
        not_after.saturating_sub(self.now_ms).min(TTL_MS)
    }

    fn serve(
        &mut self,
        request: &SyncRequest,
        epoch: u64,
        want: &Want,
    ) -> Result<Grant, Box<Refusal>> {
        if self.frozen.contains(want.key.account.as_str()) {
            return Err(Box::new(self.refusal(want, 190_104, false)));
        }
        let current = self.current_lease(request, epoch, want);
        let mut decision = self.decide(want, current);
        if decision == Decision::Short {
            let overdue = self.open_leases().filter(|(lease, row, terms)| {
                Some(*lease) != current
                    && row.account == want.key.account.as_str()
                    && terms.reclaim_at <= self.now_ms
            });
            for lease in overdue.map(|(lease, ..)| lease).collect::<Vec<u64>>() {
                self.close(lease);
            }
            decision = self.decide(want, current);
        }
        let Decision::Grant { units, last } = decision else {
            return Err(Box::new(self.recall_or_refuse(want, current)));
        };
        let lease = current.unwrap_or_else(|| self.open(request, epoch, want));
        self.books.leases.get_mut(&lease).expect("it is open").units.extend(units);
        self.hold(lease, units, 1);
        let reclaim_at = self.now_ms + 2 * TTL_MS;
        self.terms.get_mut(&lease).expect("it is open").reclaim_at = reclaim_at;
        let LeaseRow { price, units, .. } = self.books.leases[&lease];
        Ok(Grant {
            lease,
            key: want.key.clone(),
            free_units: units.granted.free,
            paid_units: units.granted.paid,
            price: Nanos::new(price),
            ttl_ms: self.ttl_ms(self.terms[&lease].not_after),
            low_water: (units.outstanding().total() / 2).max(1),
            is_final: last,
            free_quota: self.free_quota(want),
        })
    }

    fn decide(&mut self, want: &Want, current: Option<u64>) -> Decision {
        let account = want.key.account.as_str();
        let others = self
            .open_leases()
            .filter(|(lease, row, _)| row.account == account && Some(*lease) != current);
        let drawers = others.count() as u64 + 1;
        decide(self.funds(&want.key), Ask { units: want.units, min: want.min }, drawers)
    }

    /// The open lease of this process for the key. One whose month or price is over is ended instead.
    fn current_lease(&mut self, request: &SyncRequest, epoch: u64, want: &Want) -> Option<u64> {
        let found = self.open_leases().find(|(.., terms)| {
            terms.gateway == request.gateway.as_str()
                && terms.epoch == epoch
                && terms.key == want.key
        });
        let (lease, row, terms) = found?;
        let (version, _) = self.prices[&row.service];
        let is_current = row.month == self.month
            && terms.price_version == version
            && self.now_ms < terms.not_after;
        if !is_current {
            self.close(lease);
        }
        is_current.then_some(lease)
    }

    fn open(&mut self, request: &SyncRequest, epoch: u64, want: &Want) -> u64 {
        let lease = 1 + self.books.leases.last_key_value().map_or(0, |(lease, _)| *lease);
        let (price_version, price) = self.prices[want.key.service.as_str()];
        let row = LeaseRow {
            account: want.key.account.to_string(),
            service: want.key.service.to_string(),
            month: self.month,
            price,
            units: Lease { open: true, ..Lease::default() },
        };
        let terms = Terms {
            gateway: request.gateway.to_string(),
            epoch,
            key: want.key.clone(),
            price_version,
            in_flight: 0,
            recall: false,
            not_after: u64::MAX,
            reclaim_at: 0,
        };
        self.books.leases.insert(lease, row);
        self.terms.insert(lease, terms);
        lease
    }

    /// What other leases hold unused is recalled for a call that waits, when it would be enough.
    fn recall_or_refuse(&mut self, want: &Want, current: Option<u64>) -> Refusal {
        let mut funds = self.funds(&want.key);
        let mut holders = Vec::new();
        for (lease, row, terms) in self.open_leases() {
            if row.account != want.key.account.as_str() || Some(lease) == current {
                continue;
            }
            let outstanding = row.units.outstanding();
            let spare = outstanding.minus(outstanding.take_free_first(terms.in_flight));
            let is_same_quota = row.service == want.key.service.as_str() && row.month == self.month;
            let free = if is_same_quota { spare.free } else { 0 };
            let money = row.price * spare.paid.cast_signed();
            if 0 < free || 0 < money {
                holders.push(lease);
                funds.free_units += free;
                funds.available = Nanos::new(funds.available.get() + money);
            }
        }
        let soon = !holders.is_empty() && want.min <= funds.total().total();
        for lease in holders.into_iter().filter(|_| soon && want.waiting) {
            self.terms.get_mut(&lease).expect("it is open").recall = true;
        }
        self.refusal(want, 190_102, soon)
    }

    fn refusal(&mut self, want: &Want, code: u32, soon: bool) -> Refusal {
        let Funds { available, price, .. } = self.funds(&want.key);
        Refusal {
            key: want.key.clone(),
            min: if code == 190_104 { 1 } else { want.min },
            soon,
            code,
            retry_after_ms: if soon { 50 } else { 1_000 },
            available,
            price,
            free_quota: self.free_quota(want),
        }
    }

    fn free_quota(&mut self, want: &Want) -> FreeQuota {
        let month = self.month;
        let quota = *self.quota(want.key.account.as_str(), want.key.service.as_str(), month);
        FreeQuota { total: quota.total, remaining: quota.left(), resets_in_s: 86_400 }
    }
}
