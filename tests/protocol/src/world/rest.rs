//! The end of a history: everything arrives, and what an account has left can be spent.

use farebox_core::grant::Funds;
use farebox_core::money::Nanos;

use super::World;
use crate::model::Rule;
use crate::sidecar::{ACCOUNTS, SERVICES, Sidecar, TTL_MS};
use crate::step::{GATEWAYS, WORKERS};
use crate::vm::{ASSET, Call, Fate, SYNC_INTERVAL_MS, Vm};

/// Rounds after which everything has come to rest, or never will.
const ROUNDS_MAX: usize = 60;
/// After so many rounds only leases of killed processes are left, and time passes until they run out.
const ROUNDS_OF_THE_LIVING: usize = 15;
/// The most calls by which an account's rest is spent.
const CALLS_MAX: u64 = 12;
/// Rounds after which a call is decided while everything is well.
const ROUNDS_OF_A_CALL: usize = 12;

impl<S: Sidecar> World<S> {
    /// Every call ends, every message arrives, and leases that nobody uses end.
    pub(super) fn come_to_rest(&mut self) -> Rule {
        for round in 1..=ROUNDS_MAX {
            self.deliver_all()?;
            self.finish_all();
            self.end_step()?;
            let books = self.sidecar.books();
            let is_open = books.leases.values().any(|lease| lease.units.open);
            if !is_open && self.is_quiet() {
                let lives = |process| self.gateways.iter().any(|gateway| gateway.number == process);
                return self.model.check_end(&books, lives);
            }
            let waits_for_the_dead = round % ROUNDS_OF_THE_LIVING == 0;
            self.pass(if waits_for_the_dead { 2 * TTL_MS } else { 2 * SYNC_INTERVAL_MS });
            self.reclaim();
            self.end_step()?;
        }
        Err("calls, messages or leases do not come to an end".to_owned())
    }

    fn is_quiet(&self) -> bool {
        let waiting: usize =
            self.gateways.iter().flat_map(|gateway| &gateway.vms).map(Vm::waiting).sum();
        waiting == 0 && self.running().is_empty()
    }

    fn finish_all(&mut self) {
        for gateway in 0..GATEWAYS {
            for vm in 0..WORKERS {
                while self.gateways[gateway].vms[vm].running().next().is_some() {
                    self.finish(gateway, vm, true);
                }
            }
        }
    }

    fn deliver_all(&mut self) -> Rule {
        while let Some(flight) = self.flights.first() {
            match flight.reply {
                None => self.arrive(0)?,
                Some(_) => self.answer(0),
            }
            self.end_step()?;
        }
        Ok(())
    }

    /// M4: an account that has units left is not refused, and spends exactly what it has.
    pub(super) fn spend_the_rest(&mut self) -> Rule {
        for (account, _) in ACCOUNTS {
            self.freeze(account, false);
        }
        // The sidecar counts as away for a while after a loss, and refusals are remembered.
        self.pass(4 * SYNC_INTERVAL_MS);
        self.deliver_all()?;
        for (account, _) in ACCOUNTS {
            let units = self.affordable(account);
            let calls = units.min(CALLS_MAX);
            self.tell(format!("{account} has {units} {} units left", ASSET.service));
            self.end_step()?;
            for _ in 0..calls {
                self.call_and_expect(account, Fate::GoesOn)?;
            }
            if calls == units {
                self.call_and_expect(account, Fate::Refused(402))?;
            }
        }
        Ok(())
    }

    /// Units of [`ASSET`] that the account could still use, now that nothing is held.
    fn affordable(&mut self, account: &str) -> u64 {
        let books = self.sidecar.books();
        let place = (account.to_owned(), ASSET.service.to_owned(), self.model.month);
        let known = SERVICES.iter().find(|(service, ..)| *service == ASSET.service);
        let all = known.map_or(0, |&(_, _, units)| units);
        let free_units = books.quotas.get(&place).map_or(all, |quota| quota.left());
        let row = books.accounts.get(account).copied().unwrap_or_default();
        let price = self.model.prices[ASSET.service];
        Funds {
            free_units,
            available: Nanos::new(row.balance - row.held),
            price: Some(Nanos::new(price)),
        }
        .total()
        .total()
    }

    fn call_and_expect(&mut self, account: &'static str, expected: Fate) -> Rule {
        self.last_fate = None;
        self.call(0, 0, Call { account, route: ASSET });
        for _ in 0..ROUNDS_OF_A_CALL {
            if let Some(fate) = self.last_fate {
                self.end_step()?;
                let right = fate == expected;
                return if right { Ok(()) } else { Err(format!("it should be {expected:?}")) };
            }
            self.deliver_all()?;
            if self.last_fate.is_none() {
                self.pass(SYNC_INTERVAL_MS);
            }
        }
        Err("the call is not decided".to_owned())
    }
}
