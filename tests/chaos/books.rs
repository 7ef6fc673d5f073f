//! What the witnesses say after a campaign: the database, the payment service, the upstream.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use farebox_core::money::Nanos;
use farebox_core::order::from_minor_units;
use serde_json::Value;

use crate::catalog::BUDGETED;
use crate::journal::Journal;
use crate::judge::{Account, Charged, Owner, TakenBack};
use crate::plan::GATEWAYS;
use crate::site::{Site, gateway_name};

/// Charges, less what came back, by user, service and the gateway that reported them or was lent them.
const CHARGED: &str = "SELECT user_id, service_name, gateway,
    CAST(SUM(units) AS SIGNED), SUM(amount),
    CAST(SUM(IF(source = 'lost', units, 0)) AS SIGNED), SUM(IF(source = 'lost', amount, 0)),
    CAST(SUM(IF(source = 'journal', units, 0)) AS SIGNED),
    SUM(owed), SUM(IF(source = 'late', owed, 0)), SUM(IF(source = 'journal', owed, 0))
  FROM (SELECT record.user_id, record.service_name, COALESCE(record.gateway_id, lease.gateway_id, '') AS gateway,
      record.source, record.owed,
      record.free_units + record.paid_units - record.free_refunded - record.paid_refunded AS units,
      record.amount - COALESCE((SELECT SUM(refund.amount) FROM charge_refund AS refund
        WHERE refund.billing_record_id = record.billing_record_id), 0) AS amount
    FROM billing_record AS record
    LEFT JOIN lease ON record.source = 'lost' AND lease.lease_id = record.lease_id) AS records
  GROUP BY user_id, service_name, gateway";

/// What the books have of each user, service and gateway.
pub(crate) fn charged(site: &Site) -> Result<BTreeMap<Owner, Charged>> {
    let mut all = BTreeMap::new();
    for row in site.database.sql(CHARGED)? {
        let [user, service, gateway, units, amount, lost, lost_amount, allowed, owed, late, open] =
            fields(row)?;
        let charged = Charged {
            units: units.parse()?,
            amount: amount.parse()?,
            lost_units: lost.parse()?,
            lost_amount: lost_amount.parse()?,
            allowed_units: allowed.parse()?,
            owed: owed.parse()?,
            owed_late: late.parse()?,
            owed_allowed: open.parse()?,
        };
        let sum: &mut Charged = all.entry(owner(user, service, &gateway)).or_default();
        *sum = sum.plus(charged).context("a sum out of range")?;
    }
    Ok(all)
}

/// Leases that were taken back although their gateways had named them: when they were last heard of, and when they were
/// due. Times are the database's, whose clock is this machine's.
const TAKEN_BACK: &str = "SELECT lease_id, user_id, service_name, gateway_id,
    TIMESTAMPDIFF(MICROSECOND, '1970-01-01', renewed_at) DIV 1000,
    TIMESTAMPDIFF(MICROSECOND, '1970-01-01', reclaim_at) DIV 1000
  FROM lease WHERE state = 'expired' AND is_named = 1";

/// Leases that were taken back, in milliseconds since the campaign began.
pub(crate) fn taken_back(site: &Site, journal: &Journal) -> Result<Vec<TakenBack>> {
    let rows = site.database.sql(TAKEN_BACK)?.into_iter();
    rows.map(|row| {
        let [lease, user, service, gateway, heard, due] = fields(row)?;
        let since = |time: &str| Ok::<_, anyhow::Error>(journal.since(time.parse()?));
        let silent = (since(&heard)?, since(&due)?);
        Ok(TakenBack { lease: lease.parse()?, owner: owner(user, service, &gateway), silent })
    })
    .collect()
}

fn owner(user: String, service: String, gateway: &str) -> Owner {
    let gateway = (0..GATEWAYS).find(|number| gateway_name(*number) == gateway);
    let gateway = gateway.filter(|gateway| *gateway != BUDGETED);
    Owner { user, service, gateway }
}

/// What the books have of each user.
pub(crate) fn accounts(site: &Site) -> Result<BTreeMap<String, Account>> {
    let rows = site.database.sql("SELECT user_id, balance, receivable FROM user_balance")?;
    rows.into_iter()
        .map(|row| {
            let [user, balance, receivable] = fields(row)?;
            Ok((user, Account { balance: balance.parse()?, receivable: receivable.parse()? }))
        })
        .collect()
}

fn fields<const COUNT: usize>(row: Vec<String>) -> Result<[String; COUNT]> {
    row.try_into().map_err(|row| anyhow::anyhow!("{row:?} has not {COUNT} columns"))
}

/// What the payment service has of each user: paid, less what went back.
pub(crate) fn paid(payments: &[Value]) -> Result<BTreeMap<String, Nanos>> {
    let mut paid = BTreeMap::new();
    for payment in payments.iter().filter(|payment| is_paid(payment)) {
        let user = payment["user_id"].as_str().context("a payment without a user")?;
        let refunds = payment["refunds"].as_array().into_iter().flatten();
        let done = refunds.filter(|refund| refund["outcome"] == "success");
        let back: i64 = done.filter_map(|refund| refund["amount_minor"].as_i64()).sum();
        let kept = payment["amount_minor"].as_i64().context("a payment without an amount")? - back;
        let kept = from_minor_units(kept, 2).context("an amount out of range")?;
        let sum: &mut Nanos = paid.entry(user.to_owned()).or_default();
        *sum = sum.checked_add(kept).context("a sum out of range")?;
    }
    Ok(paid)
}

/// Whether money came.
pub(crate) fn is_paid(payment: &Value) -> bool {
    let status = payment["status"].as_str().unwrap_or_default();
    ["SUCCESS", "PARTIALLY_REFUNDED", "REFUNDED"].contains(&status)
}
