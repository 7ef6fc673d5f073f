//! What last month's usage would have come to at other prices.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Serialize;

use farebox_core::id::{AccountId, ServiceName};
use farebox_core::money::SCALE;
use farebox_core::tariff::Tariff;

use super::change::{self, NewPrice, PriceChange, PricePlan, PricesError};
use crate::app::App;
use crate::calendar::Month;
use crate::store;
use crate::store::price_usage::{self, Usage};
use crate::store::price_version::{self, PriceVersion};

/// What last month's usage would have come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repricing {
    /// `YYYY-MM` in the billing time zone.
    pub month: String,
    /// Each named service that earned something.
    pub services: Vec<Repriced>,
    /// The accounts that would have paid most more or less, the most affected first.
    pub accounts: Vec<Repriced>,
}

/// Usage at the prices that it was charged at, and at other ones. Sums may be beyond what one amount can be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repriced {
    /// The service or the account.
    pub name: String,
    /// What it earned, or paid.
    pub earned: String,
    /// What it would have.
    pub would_have_earned: String,
    /// The latter less the former.
    pub difference: String,
}

/// Accounts that a plan names.
const ACCOUNTS: usize = 10;

/// What a change would do.
pub(in crate::app) async fn plan(
    app: &App,
    change: &PriceChange,
) -> Result<(PricePlan, Repricing), PricesError> {
    change::validate(app, change)?;
    let mut connection = app.store.acquire().await?;
    let now = store::now(&mut connection).await?;
    let versions = price_version::all(&mut connection).await?;
    let (plan, _) = change::compare(&versions, change, now)?;
    let month = Month::text_before(now, app.settings.time_zone);
    let prices = Prices { change, versions: &versions, at: change::moment(change, now) };
    let services = change.prices.keys().chain(change.accounts.values().flat_map(BTreeMap::keys));
    let mut sums = Sums::default();
    price_usage::each(&mut connection, &month, &services.collect(), |usage| {
        sums.add(&prices, usage);
    })
    .await?;
    Ok((plan, sums.finish(month)))
}

/// The prices as they would be.
struct Prices<'a> {
    change: &'a PriceChange,
    versions: &'a [PriceVersion],
    at: DateTime<Utc>,
}

impl Prices<'_> {
    /// The price that an account would have paid; `None` when the change does not touch it.
    fn of(&self, account: &AccountId, service: &ServiceName) -> Option<&Tariff> {
        let own = self.change.accounts.get(account).and_then(|prices| prices.get(service));
        match own {
            Some(NewPrice::Price(price)) => Some(price),
            Some(NewPrice::Book) => self.everybodys(service).or_else(|| self.held(None, service)),
            None if self.held(Some(account), service).is_some() => None,
            None => self.everybodys(service),
        }
    }

    fn everybodys(&self, service: &ServiceName) -> Option<&Tariff> {
        self.change.prices.get(service)
    }

    /// What the book says at the moment of the change, without it.
    fn held(&self, account: Option<&AccountId>, service: &ServiceName) -> Option<&Tariff> {
        let holds = |version: &&PriceVersion| {
            change::is_of(version, account, service) && version.holds(self.at)
        };
        self.versions.iter().find(holds).map(|version| &version.tariff)
    }
}

/// 1e-9 of the currency as a decimal.
fn amount(nanos: Option<i128>) -> Option<Decimal> {
    Decimal::try_from_i128_with_scale(nanos?, SCALE as u32).ok()
}

/// What was earned, and what would have been.
#[derive(Debug, Clone, Copy, Default)]
struct Earned {
    earned: Decimal,
    would_have: Decimal,
}

impl Earned {
    fn add(&mut self, more: Self) {
        self.earned = self.earned.saturating_add(more.earned);
        self.would_have = self.would_have.saturating_add(more.would_have);
    }

    fn difference(self) -> Decimal {
        self.would_have.saturating_sub(self.earned)
    }

    fn named(self, name: String) -> Repriced {
        let text = |amount: Decimal| amount.normalize().to_string();
        Repriced {
            name,
            earned: text(self.earned),
            would_have_earned: text(self.would_have),
            difference: text(self.difference()),
        }
    }
}

/// Sums over usage that comes account by account; of the accounts, only the most affected are kept.
#[derive(Debug, Default)]
struct Sums {
    services: BTreeMap<ServiceName, Earned>,
    account: Option<(AccountId, Earned)>,
    most_affected: Vec<(AccountId, Earned)>,
}

impl Sums {
    fn add(&mut self, prices: &Prices<'_>, usage: Usage) {
        let Usage { account, service, units, earned } = usage;
        let cost = prices.of(&account, &service).map(|tariff| tariff.cost(units));
        // Beyond what a decimal can say, the largest that it can.
        let would_have = cost.map_or(earned, |cost| amount(cost).unwrap_or(Decimal::MAX));
        let sum = Earned { earned, would_have };
        self.services.entry(service).or_default().add(sum);
        match &mut self.account {
            Some((current, total)) if *current == account => total.add(sum),
            _ => {
                self.keep_account();
                self.account = Some((account, sum));
            }
        }
    }

    /// Keeps the account whose usage is complete, if it is among the most affected.
    fn keep_account(&mut self) {
        let affected = |(_, earned): &(_, Earned)| !earned.difference().is_zero();
        self.most_affected.extend(self.account.take().filter(affected));
        // The sort is stable: accounts that are affected alike stay in order of their names.
        self.most_affected.sort_by_key(|(_, earned)| std::cmp::Reverse(earned.difference().abs()));
        self.most_affected.truncate(ACCOUNTS);
    }

    fn finish(mut self, month: String) -> Repricing {
        self.keep_account();
        let services = self.services.into_iter();
        let accounts = self.most_affected.into_iter();
        Repricing {
            month,
            services: services.map(|(name, earned)| earned.named(name.to_string())).collect(),
            accounts: accounts.map(|(name, earned)| earned.named(name.to_string())).collect(),
        }
    }
}
