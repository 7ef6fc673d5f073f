//! Usage: of leases and of journal lines.

use farebox_core::lease::Usage;
use farebox_core::wire::{Ack, JournalAck, JournalReport, LeaseKey, Report};

use crate::app::books::{Charge, price_of, quota_key};
use crate::app::sync::batch::Batch;
use crate::app::sync::quota_of;
use crate::negative::{self, Guard};
use crate::store::StoreError;
use crate::store::billing_record::Source;
use crate::store::free_quota::QuotaKey;
use crate::store::journal_line::{Booked, JournalLine};
use crate::store::lease::{State, StoredLease};

impl Batch<'_> {
    /// Charges what a lease newly used, releases what it gave back, and renews it.
    pub(super) fn settle(&mut self, report: &Report) -> Result<(), StoreError> {
        let lease = match self.books.lease(report.lease) {
            Some(lease) if lease.gateway == self.request.gateway => lease.clone(),
            None if self.owners.contains_key(&report.lease) => {
                // The gateway keeps it and reports it again, until its row is repaired.
                let key = report.lease.to_string();
                return Err(StoreError::Missing { table: "lease", key });
            }
            Some(_) | None => {
                tracing::error!(gateway.id = %self.request.gateway, lease.id = report.lease, units = report.used,
                    "alert: a gateway reports a lease that it never had; nobody is charged for it");
                let ack = Ack { lease: report.lease, used: 0, open: false, ttl_ms: 0 };
                self.reply.acks.push(ack);
                return Ok(());
            }
        };
        let mut units = lease.units;
        let mut usage = Usage { used: report.used, returned: report.returned, close: report.close };
        if negative::is_off(Guard::Totals) {
            usage.used = usage.used.saturating_add(units.charged());
        }
        let settled = units.settle(usage);

        let unused = units.correct(usage, report.in_flight);

        let held = Charge::of_lease(&lease, Source::Lease, Some(self.reference()));
        if negative::is_off(Guard::Holds) {
            self.books.charge_unheld(&held, settled.used.total())?;
        } else if negative::is_off(Guard::Charges) {
            self.books.release(&quota_key(&lease), price_of(&lease), settled.used)?;
        } else {
            self.books.charge_held(&held, settled.used)?;
        }
        self.books.release(&quota_key(&lease), price_of(&lease), settled.released)?;
        let late = Charge::of_lease(&lease, Source::Late, Some(self.reference()));
        self.books.charge_unheld(&late, settled.late)?;
        self.books.give_lost_back(&lease, unused)?;

        let gave_back = 0 < settled.released.total();
        // A grant may have been on its way when the account was frozen: nothing of it stays out, whatever came back since.
        let stays_recalled =
            self.books.is_frozen(&lease.key.account)? || (lease.recall && !gave_back);
        let renewed = self.renew(StoredLease { units, ..lease }, report.in_flight, stays_recalled);
        self.reply.acks.push(Ack {
            lease: renewed.id,
            used: renewed.units.charged(),
            open: renewed.units.open,
            ttl_ms: if renewed.units.open { self.ttl_ms(renewed.not_after) } else { 0 },
        });
        *self.books.lease_mut(report.lease)? = renewed;
        Ok(())
    }

    /// A lease that was just heard of. It stays recalled until its gateway has given back what it does not use: a report
    /// may have been on its way before the recall arrived.
    fn renew(&self, lease: StoredLease, in_flight: u64, stays_recalled: bool) -> StoredLease {
        if !lease.units.open {
            let state = if lease.state == State::Open { State::Closed } else { lease.state };
            return StoredLease { state, recall: false, in_flight: 0, ..lease };
        }
        let is_idle = in_flight < lease.units.outstanding().total();
        let is_over = lease.not_after.is_some_and(|end| end <= self.books.now);
        StoredLease {
            in_flight,
            recall: is_idle && (is_over || stays_recalled),
            reclaim_at: self.reclaim_at(),
            renewed_at: self.books.now,
            is_named: true,
            ..lease
        }
    }

    /// Charges what a journal line newly used. One that is another key's is not acknowledged: the gateway keeps what it says.
    pub(super) fn charge_journal(&mut self, report: &JournalReport) -> Result<(), StoreError> {
        let known = self.journal.get(&report.line);
        if known.is_some_and(|booked| !booked.is_of_key) {
            self.alert_contradiction(report);
            return Ok(());
        }
        let booked = known.map_or(0, |booked| booked.used);
        let booked = if negative::is_off(Guard::Lines) { 0 } else { booked };
        let total = booked.max(report.used);
        if booked < total {
            let terms = self.prices.terms(&report.key);
            let charge = Charge {
                message: Some(self.reference()),
                quota: quota_of(&report.key, &self.month),
                unit_price: terms.first(),
                source: Source::Journal,
                lease: None,
                journal_line: Some(report.line),
            };
            let units = total.saturating_sub(booked);
            self.alert_unpriced(&charge, units);
            self.books.charge_unheld_over(&charge, &terms, units)?;
            self.books.write_journal_line(JournalLine {
                gateway: self.request.gateway.clone(),
                instance: self.request.instance.clone(),
                line: report.line,
                account: report.key.account.clone(),
                service: report.key.service.clone(),
                route_price: report.key.price,
                used: total,
            });
            self.journal.insert(report.line, Booked { used: total, is_of_key: true });
        }
        self.reply.journal_acks.push(JournalAck { line: report.line, used: total });
        Ok(())
    }

    /// Its total would be charged to two accounts in parts, or at two prices.
    fn alert_contradiction(&self, JournalReport { line, key, used }: &JournalReport) {
        let LeaseKey { account, service, .. } = key;
        tracing::error!(gateway.id = %self.request.gateway, epoch = self.epoch, line, account.id = %account,
            service.name = %service, units = used,
            "alert: a gateway reports a journal line under another account, service or price than before; nobody is charged for it");
    }

    /// Calls that were allowed without a lease cannot be refused any more. Those that neither a quota nor a price covers
    /// are booked at nothing, and the operator has to know.
    fn alert_unpriced(&self, charge: &Charge<'_>, units: u64) {
        let QuotaKey { account, service, .. } = &charge.quota;
        let free = self.books.quota(&charge.quota).map_or(0, |quota| quota.remaining());
        let unpriced = units.saturating_sub(free);
        if charge.unit_price.price.is_none() && 0 < unpriced {
            tracing::error!(gateway.id = %self.request.gateway, account.id = %account, service.name = %service,
                units = unpriced, "alert: units were used that have no price; they are booked at nothing");
        }
    }
}
