//! What the witnesses say after a campaign: the database, the payment service, the upstream.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use farebox_core::money::Nanos;
use farebox_core::order::from_minor_units;
use serde_json::Value;

use crate::judge::{Account, Charged, Owner};
use crate::plan::GATEWAYS;
use crate::site::{Site, gateway_name};

/// Charges by user, service and the gateway that reported them.
const CHARGED: &str = "SELECT user_id, service_name, COALESCE(gateway_id, ''),
    CAST(SUM(free_units + paid_units - free_refunded - paid_refunded) AS SIGNED),
    SUM(amount), SUM(owed), SUM(IF(source = 'late', owed, 0))
  FROM billing_record GROUP BY user_id, service_name, gateway_id";

/// Money that came back of charges, by the same.
const RETURNED: &str = "SELECT record.user_id, record.service_name, COALESCE(record.gateway_id, ''), SUM(refund.amount)
  FROM charge_refund AS refund JOIN billing_record AS record USING (billing_record_id)
  GROUP BY record.user_id, record.service_name, record.gateway_id";

/// What the books have of each user, service and gateway.
pub(crate) fn charged(site: &Site) -> Result<BTreeMap<Owner, Charged>> {
    let mut all = BTreeMap::new();
    for row in site.database.sql(CHARGED)? {
        let [user, service, gateway, units, amount, owed, late] = fields(row)?;
        let charged = Charged {
            units: units.parse()?,
            amount: amount.parse()?,
            owed: owed.parse()?,
            owed_late: late.parse()?,
        };
        all.insert(owner(user, service, &gateway), charged);
    }
    for row in site.database.sql(RETURNED)? {
        let [user, service, gateway, amount] = fields(row)?;
        let amount: Nanos = amount.parse()?;
        let charged: &mut Charged = all.entry(owner(user, service, &gateway)).or_default();
        charged.amount = charged.amount.checked_sub(amount).context("too much came back")?;
    }
    Ok(all)
}

fn owner(user: String, service: String, gateway: &str) -> Owner {
    let gateway = (0..GATEWAYS).find(|number| gateway_name(*number) == gateway);
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
