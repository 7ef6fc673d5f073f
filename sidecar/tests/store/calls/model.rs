//! What charging must come to, in memory: written for the tests, without the code that it judges. Money is in cents.

use std::collections::BTreeMap;

/// The services: free units of each account, and the price.
pub(super) const SERVICES: [(&str, u64, Option<i64>); 3] =
    [("asset", 30, Some(7)), ("payment", 0, Some(11)), ("gift", 20, None)];

pub(super) const ACCOUNTS: [&str; 3] = ["u", "v", "w"];

/// Free and paid units.
pub(super) type Units = (u64, u64);

/// Something that is set aside: a reservation or a lease.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) account: usize,
    pub(super) service: usize,
    pub(super) units: Units,
    /// What it holds of the balance.
    pub(super) money: i64,
    /// Whether it is of an amount of money.
    pub(super) of_amount: bool,
    /// Whether its time is over.
    pub(super) overdue: bool,
}

/// A charge and what of it went back.
#[derive(Debug, Clone)]
pub(super) struct Charge {
    pub(super) account: usize,
    pub(super) service: usize,
    pub(super) units: Units,
    pub(super) refunded: Units,
    pub(super) price: i64,
}

/// How a call is covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cover {
    /// By these units, for this much.
    Paid(Units, i64),
    /// Once gateways have given back what they do not use.
    Busy,
    /// Not.
    Short,
    /// Not, whatever there is.
    Frozen,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) balance: [i64; 3],
    pub(super) limit: [i64; 3],
    pub(super) frozen: [bool; 3],
    /// By account and service.
    pub(super) used: [[u64; 3]; 3],
    pub(super) reservations: BTreeMap<String, Claim>,
    pub(super) leases: BTreeMap<u64, Claim>,
    /// Of deducts and reservations, by record.
    pub(super) charges: BTreeMap<String, Charge>,
    /// Records and units that leases were charged, by account.
    pub(super) leased: [(u64, u64); 3],
}

impl Model {
    fn claims(&self, account: usize) -> impl Iterator<Item = &Claim> {
        let all = self.reservations.values().chain(self.leases.values());
        all.filter(move |claim| claim.account == account)
    }

    pub(super) fn held_money(&self, account: usize) -> i64 {
        self.claims(account).map(|claim| claim.money).sum()
    }

    pub(super) fn held_units(&self, account: usize, service: usize) -> u64 {
        let of_service = self.claims(account).filter(|claim| claim.service == service);
        of_service.map(|claim| claim.units.0).sum()
    }

    /// How much of the credit limit is used or held.
    pub(super) fn limit_in_use(&self, account: usize) -> i64 {
        (self.held_money(account) - self.balance[account]).max(0)
    }

    /// Money that nothing holds, on credit included.
    fn money(&self, account: usize) -> i64 {
        self.balance[account] + self.limit[account] - self.held_money(account)
    }

    /// Free units and money that nothing holds.
    pub(super) fn funds(&self, account: usize, service: usize) -> (u64, i64) {
        let taken = self.used[account][service] + self.held_units(account, service);
        (SERVICES[service].1 - taken, self.money(account))
    }

    /// Covers `units` of a service, and ends what is overdue when that takes it.
    pub(super) fn cover(&mut self, account: usize, service: usize, units: u64) -> Cover {
        let price = SERVICES[service].2;
        self.cover_with(account, |model, spare| {
            let (free, money) = model.funds(account, service);
            let leases = model.leases.values().filter(|lease| spare && lease.account == account);
            let (mut free, mut money) = (free, money);
            for lease in leases {
                free += if lease.service == service { lease.units.0 } else { 0 };
                money += if price.is_some() { lease.money } else { 0 };
            }
            let units = (units.min(free), units.saturating_sub(free));
            let cost = price.unwrap_or(0) * i64::try_from(units.1).unwrap();
            let covered = units.1 == 0 || (price.is_some() && cost <= money);
            covered.then_some((units, cost))
        })
    }

    /// Covers an amount of money.
    pub(super) fn cover_amount(&mut self, account: usize, cents: i64) -> Cover {
        self.cover_with(account, |model, spare| {
            let leases = model.leases.values().filter(|lease| spare && lease.account == account);
            let money = model.money(account) + leases.map(|lease| lease.money).sum::<i64>();
            (cents <= money).then_some(((0, 0), cents))
        })
    }

    fn cover_with(
        &mut self,
        account: usize,
        by: impl Fn(&Self, bool) -> Option<(Units, i64)>,
    ) -> Cover {
        if self.frozen[account] {
            return Cover::Frozen;
        }
        if by(self, false).is_none() {
            self.reservations.retain(|_, claim| claim.account != account || !claim.overdue);
        }
        match (by(self, false), by(self, true)) {
            (Some((units, cost)), _) => Cover::Paid(units, cost),
            (None, Some(_)) => Cover::Busy,
            (None, None) => Cover::Short,
        }
    }

    /// Charges; `record` names it, except for what leases use.
    pub(super) fn charge(&mut self, record: Option<String>, charge: Charge) {
        let Charge { account, service, units, price, .. } = charge;
        self.used[account][service] += units.0;
        self.balance[account] -= price * i64::try_from(units.1).unwrap();
        match record {
            Some(record) => drop(self.charges.insert(record, charge)),
            None => {
                let (records, sum) = self.leased[account];
                self.leased[account] = (records + 1, sum + units.0 + units.1);
            }
        }
    }

    /// Gives units of a charge back, paid ones first; how many of each.
    pub(super) fn refund(&mut self, record: &str, units: u64) -> Units {
        let charge = self.charges.get_mut(record).unwrap();
        let paid = units.min(charge.units.1 - charge.refunded.1);
        let free = units - paid;
        charge.refunded = (charge.refunded.0 + free, charge.refunded.1 + paid);
        self.used[charge.account][charge.service] -= free;
        self.balance[charge.account] += charge.price * i64::try_from(paid).unwrap();
        (free, paid)
    }

    /// How many units of a charge can still go back.
    pub(super) fn left(&self, record: &str) -> u64 {
        let Charge { units, refunded, .. } = &self.charges[record];
        units.0 + units.1 - refunded.0 - refunded.1
    }

    /// Every row that it expects, as text.
    pub(super) fn rows(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for (account, name) in ACCOUNTS.iter().enumerate() {
            let (balance, held) = (self.balance[account], self.held_money(account));
            let (limit, frozen) = (self.limit[account], u8::from(self.frozen[account]));
            rows.push(format!("{name} {balance} {held} {limit} {frozen}"));
            for (service, (service_name, _, _)) in SERVICES.iter().enumerate() {
                let held = self.held_units(account, service);
                rows.push(format!("{name} {service_name} {} {held}", self.used[account][service]));
            }
            let (mut records, mut units) = self.leased[account];
            let (mut free_back, mut paid_back) = (0, 0);
            for charge in self.charges.values().filter(|charge| charge.account == account) {
                records += 1;
                units += charge.units.0 + charge.units.1;
                free_back += charge.refunded.0;
                paid_back += charge.refunded.1;
            }
            rows.push(format!("{name} records {records} {units} {free_back} {paid_back}"));
        }
        rows.sort();
        rows
    }
}
