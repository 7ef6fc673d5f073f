//! The story itself.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use farebox_core::money::Nanos;
use farebox_tests::{Answer, Client, Plan, Stack};

use crate::calls::EXPORT;
use crate::screen::Screen;

/// Price of one unit of the service `asset`, and the free units of a month: small, so that the story is short.
const PRICE: &str = "0.001";
const FREE_UNITS: u64 = 10;

/// What a report costs in units, as `envoy/envoy.yaml` says in the route's metadata.
const REPORT_UNITS: u64 = 5;

/// The caller, who is new.
pub(crate) const USER: &str = "ada";

/// How soon calls work again after money came in.
pub(crate) const BACK_WITHIN: Duration = Duration::from_secs(1);

pub(crate) const ITEM: &str = "/v1/asset/items";
const REPORT: &str = "/v1/asset/report";

/// Calls that were answered 200, by what they cost.
#[derive(Debug, Default)]
struct Served {
    items: u64,
    reports: u64,
}

/// The stack, the caller, the screen and what has happened.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) stack: Stack,
    pub(crate) client: Client,
    pub(crate) screen: Screen,
    served: Served,
}

/// Lives through the story; gives the number of facts that were not as told.
pub(crate) async fn tell() -> Result<u32> {
    let screen = Screen::default();
    println!("Farebox: prepaid metering for Envoy\n");
    let started = Instant::now();
    let plan = Plan::reference().prices(&[("asset", PRICE)]).free_quotas(&[("asset", FREE_UNITS)]);
    print!("  starting ");
    let stack = Stack::start_telling(plan, |part| screen.part(part)).await?;
    println!("\n  all ready after {:.1} s\n", started.elapsed().as_secs_f32());
    screen.say(&format!(
        "Service `asset` costs {PRICE} CNY per unit; {FREE_UNITS} units a month are free.\n  \
         A call of {ITEM} takes 1 unit, a call of {REPORT} takes {REPORT_UNITS}."
    ));

    let mut story = Story { client: stack.client(), stack, screen, served: Served::default() };
    story.free_units().await;
    story.straddle().await;
    story.until_the_money_is_gone().await;
    let order = story.order().await?;
    story.forgeries(&order).await;
    story.payment(&order).await?;
    story.strict_route().await;
    story.behind_no_envoy().await?;
    story.the_books().await?;
    let disproved = story.screen.disproved();
    match disproved {
        0 => println!("\nEverything was as told. Now try it yourself: cargo xtask up"),
        count => println!("\n{count} facts were not as told."),
    }
    Ok(disproved)
}

impl Story {
    /// A user whom nobody announced is served from the month's free units.
    async fn free_units(&mut self) {
        self.screen.chapter("Ada is new: her first calls are free");
        let first = self.item().await;
        self.screen.call(&format!("GET {ITEM}  (x-user-id: {USER})"), &first);
        self.source_and_charge(&first, "free", "0");

        let mut free = 0;
        for _ in 0..7 {
            free += u64::from(self.item().await.header("x-farebox-source") == "free");
        }
        self.screen.figure("7 more calls, all free", &free.to_string(), "7");
    }

    /// One call takes the last free units and pays for the rest.
    async fn straddle(&mut self) {
        self.screen.chapter("2 free units are left, a report takes 5: one call, two sources");
        self.credit("0.010", "welcome");
        let report = self.report().await;
        self.screen.call(&format!("GET {REPORT}"), &report);
        self.source_and_charge(&report, "mixed", "0.003");
    }

    /// The balance pays for what it can, exactly.
    async fn until_the_money_is_gone(&mut self) {
        self.screen.chapter("0.007 CNY are left: one more report, two more items, then nothing");
        let report = self.report().await;
        self.screen.call_briefly(&format!("GET {REPORT}"), &report);
        self.source_and_charge(&report, "balance", "0.005");
        for _ in 0..2 {
            let item = self.item().await;
            self.screen.call_briefly(&format!("GET {ITEM}"), &item);
            self.source_and_charge(&item, "balance", "0.001");
        }
        let refused = self.item().await;
        self.screen.call(&format!("GET {ITEM}"), &refused);
        self.screen.figure("status", refused.status.as_str(), "402");
        self.screen.figure("code", &refused.code().to_string(), "190102");
    }

    /// Account, records, Envoy's count and the ledger say the same.
    async fn the_books(&mut self) -> Result<()> {
        self.screen.chapter("The books: Envoy's own count against the ledger");
        let units = self.served.items + REPORT_UNITS * self.served.reports;
        self.wait_for_the_last_report(units).await?;
        let shown = self.stack.sidecar.cli(&["account", "show", USER])?;
        self.screen.command(&format!("farebox account show {USER}"), &shown);

        let envoy = &self.stack.envoy;
        let items = envoy.stat("vhost.farebox.route.asset.upstream_rq_200").await;
        let reports = envoy.stat("vhost.farebox.route.asset_report.upstream_rq_200").await;
        let counted = items + REPORT_UNITS * reports;
        let paid = counted.saturating_sub(FREE_UNITS);
        let price: Nanos = PRICE.parse()?;
        let due = price.checked_mul(paid).unwrap_or_default();
        self.screen.say(&format!(
            "Envoy served {items} items × 1 unit + {reports} reports × {REPORT_UNITS} units = {counted} units;\n  \
             {FREE_UNITS} were free, {paid} × {PRICE} CNY = {due} CNY"
        ));
        let account = self.stack.account(USER);
        self.screen.figure("units that Envoy served", &counted.to_string(), &units.to_string());
        self.screen.figure(
            "units on billing records",
            &account.recorded_units.to_string(),
            &counted.to_string(),
        );
        self.screen.figure("money on billing records", &account.recorded_amount, &due.to_string());
        self.screen.figure("charged in the ledger, CNY", &account.ledger_charges, &due.to_string());
        let balance = "1.01".parse::<Nanos>()?.checked_sub(due).unwrap_or_default();
        self.screen.figure(
            "balance: 0.010 credited + 1.00 recharged − charges, CNY",
            &account.balance,
            &balance.to_string(),
        );
        match self.stack.sidecar.cli(&["invariants"]) {
            Ok(printed) => self.screen.command("farebox invariants", &printed),
            Err(err) => self.screen.fact(false, &err.to_string()),
        }
        Ok(())
    }

    /// Usage is reported a few times per second; the last report may still be on its way.
    async fn wait_for_the_last_report(&self, units: u64) -> Result<()> {
        let started = Instant::now();
        while self.stack.account(USER).recorded_units < units {
            let account = self.stack.account(USER);
            ensure!(
                started.elapsed() < Duration::from_secs(10),
                "not all usage arrived: {account:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    pub(crate) async fn item(&mut self) -> Answer {
        let answer = self.call(ITEM).await;
        self.served.items += u64::from(answer.status == 200);
        answer
    }

    /// A call of a strict route; Envoy counts it with the items.
    pub(crate) async fn export(&mut self) -> Answer {
        let answer = self.call(EXPORT).await;
        self.served.items += u64::from(answer.status == 200);
        answer
    }

    async fn report(&mut self) -> Answer {
        let answer = self.call(REPORT).await;
        self.served.reports += u64::from(answer.status == 200);
        answer
    }

    async fn call(&self, path: &str) -> Answer {
        self.client.get(path).user(USER).header("accept-language", "en").send().await
    }

    fn credit(&mut self, amount: &str, reason: &str) {
        let line = format!("farebox account credit {USER} {amount} --reason '{reason}'");
        match self.stack.sidecar.cli(&["account", "credit", USER, amount, "--reason", reason]) {
            Ok(printed) => self.screen.command(&line, &printed),
            Err(err) => self.screen.fact(false, &err.to_string()),
        }
    }

    pub(crate) fn source_and_charge(&mut self, answer: &Answer, source: &str, charge: &str) {
        let header = |name| answer.header(name).to_owned();
        self.screen.figure("paid from", &header("x-farebox-source"), source);
        self.screen.figure("charged, CNY", &header("x-farebox-charge"), charge);
    }
}
