//! Leases that are taken back from silent gateways: who bears what they had drawn and not reported. Pure: rows change in
//! memory only.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use sqlx::mysql::MySqlConnection;

use farebox_core::grant::Split;
use farebox_core::lease::{OnLost, Reclaimed};

use crate::app::Settings;
use crate::app::books::movement::{cost_of, price_of};
use crate::app::books::{Books, Charge, quota_key};
use crate::store::billing_record::Source;
use crate::store::lease::{State, StoredLease};
use crate::store::{StoreError, gateway};

impl Books {
    /// Loads when the processes of overdue leases were last heard of.
    pub(in crate::app) async fn load_last_seen(
        &mut self,
        tx: &mut MySqlConnection,
    ) -> Result<(), StoreError> {
        let now = self.now;
        let leases = self.leases.values().map(|row| &row.current);
        let overdue = leases.filter(|lease| lease.units.open && lease.reclaim_at <= now);
        let processes: BTreeSet<_> = overdue.map(|lease| (&lease.gateway, lease.epoch)).collect();
        let processes: Vec<_> = processes.into_iter().collect();
        let found = gateway::last_seen(tx, &processes).await?;
        self.last_seen.extend(found.into_iter().map(|(name, epoch, at)| ((name, epoch), at)));
        Ok(())
    }

    /// Whether the grant never reached the gateway: its process never named the lease, and was heard when it could not spend
    /// from it any more. One that it named once is not forgotten: what is heard may be old, and come late.
    fn is_forgotten(&self, lease: &StoredLease, ttl: Duration) -> bool {
        let process = (lease.gateway.clone(), lease.epoch);
        let ttl = TimeDelta::from_std(ttl).unwrap_or(TimeDelta::MAX);
        let heard = self.last_seen.get(&process);
        !lease.is_named && heard.is_some_and(|&heard| ttl * 3 / 2 < heard - lease.renewed_at)
    }

    /// Takes a lease back from a silent gateway: what it holds goes back to the account, or is charged.
    pub(in crate::app) fn reclaim_lease(
        &mut self,
        id: u64,
        settings: &Settings,
    ) -> Result<(), StoreError> {
        let lease = self.lease_mut(id)?.clone();
        let is_forgotten = self.is_forgotten(&lease, settings.lease_ttl);
        let on_lost = if is_forgotten { OnLost::Reported } else { settings.on_lost };
        let lease = self.lease_mut(id)?;
        let held = lease.units.outstanding();
        let Reclaimed { released, lost } = lease.units.reclaim(on_lost);
        lease.state = State::Expired;
        lease.recall = false;
        let lease = lease.clone();
        let amount = cost_of(Some(lease.price), held.paid, &lease.key.account)?;
        self.release(&quota_key(&lease), price_of(&lease), released)?;
        let record = self.charge_held(&Charge::of_lease(&lease, Source::Lost, None), lost)?;
        self.lease_mut(id)?.lost_record = record;
        if is_forgotten {
            return Ok(());
        }
        self.tally.lose(held.total(), amount);
        Ok(())
    }

    /// Loads the records that charged what was lost with the leases that are loaded.
    pub(in crate::app) async fn load_lost(
        &mut self,
        tx: &mut MySqlConnection,
    ) -> Result<(), StoreError> {
        let leases = self.leases.values().map(|row| &row.current);
        let lost = leases.filter(|lease| lease.units.lost != Split::NONE);
        let records: Vec<String> = lost.filter_map(|lease| lease.lost_record.clone()).collect();
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        if records.is_empty() {
            return Ok(());
        }
        self.load_calls(tx, &[], &records).await
    }

    /// Gives units back that were charged as lost and were not used. What somebody has refunded already does not go back
    /// twice.
    pub(in crate::app) fn give_lost_back(
        &mut self,
        lease: &StoredLease,
        units: Split,
    ) -> Result<(), StoreError> {
        let Some(record) = &lease.lost_record else { return Ok(()) };
        let Some(charge) = self.charged(record) else { return Ok(()) };
        let left = charge.units.minus(charge.refunded);
        let units = Split { free: units.free.min(left.free), paid: units.paid.min(left.paid) };
        if units == Split::NONE {
            return Ok(());
        }
        self.refund_charge(record, units).map(drop)
    }
}
