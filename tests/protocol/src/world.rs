//! Gateways, messages under way, and a sidecar: plays a history step by step, checks the books after each step, and tells
//! what happened as a story of one line per step.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Key, Model, Rule};
use crate::process::Process;
use crate::sidecar::{ACCOUNTS, SERVICES, Sidecar};
use crate::step::{GATEWAYS, Step, WORKERS};
use crate::vm::{ASSET, Call, Fate, Route, SYNC_INTERVAL_MS, TIMEOUT_MS, VIDEO, Vm};

use messages::Flight;

mod messages;
mod rest;
mod told;

const ROUTES: [Route; SERVICES.len()] = [ASSET, VIDEO];

/// A process of a gateway.
#[derive(Debug)]
struct Gateway {
    number: usize,
    process: Arc<Process>,
    vms: Vec<Vm>,
}

impl Gateway {
    /// The process with this number: the `number / GATEWAYS`th of its gateway.
    fn start(number: usize, now_ms: u64) -> Self {
        let process = Arc::new(Process::new(number as u64));
        process.pass(now_ms);
        let vms = (0..WORKERS).map(|_| Vm::new(&process, &told::gateway(number))).collect();
        Self { number, process, vms }
    }
}

/// Everything.
#[derive(Debug)]
pub struct World<S> {
    sidecar: S,
    model: Model,
    now_ms: u64,
    gateways: Vec<Gateway>,
    flights: Vec<Flight>,
    sent: usize,
    taken_in: Vec<(usize, usize, Vec<u8>)>,
    story: Vec<String>,
    line: String,
    /// Time that has passed since the story's last line.
    passed_ms: u64,
    last_fate: Option<Fate>,
}

impl<S: Sidecar> World<S> {
    /// Before the first step.
    pub fn new(sidecar: S) -> Self {
        let mut world = Self {
            sidecar,
            model: Model::new(),
            now_ms: 0,
            gateways: (0..GATEWAYS).map(|number| Gateway::start(number, 0)).collect(),
            flights: Vec::new(),
            sent: 0,
            taken_in: Vec::new(),
            story: Vec::new(),
            line: String::new(),
            passed_ms: 0,
            last_fate: None,
        };
        for (account, nanos) in ACCOUNTS {
            world.credit(account, nanos);
        }
        world
    }

    /// What has happened, one line per step, the last of which may have broken a rule.
    pub fn end_of_story(mut self) -> Vec<String> {
        self.story.extend(Some(self.line).filter(|line| !line.is_empty()));
        self.story
    }

    /// Plays a history to its end.
    pub fn play(&mut self, history: &[Step]) -> Rule {
        for step in history {
            self.step(step)?;
            self.end_step()?;
        }
        self.come_to_rest()?;
        self.spend_the_rest()
    }

    /// Ends a line of the story, and checks the books.
    fn end_step(&mut self) -> Rule {
        if self.line.is_empty() {
            return Ok(());
        }
        self.end_line();
        let books = self.sidecar.books();
        self.model.check(&books, &self.running())
    }

    /// Ends a line of the story, if anything happened that is worth one.
    fn end_line(&mut self) {
        let passed = std::mem::take(&mut self.passed_ms);
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            self.passed_ms = passed;
        } else if passed == 0 {
            self.story.push(line);
        } else {
            self.story.push(format!("{passed} ms pass; {line}"));
        }
    }

    fn tell(&mut self, text: impl AsRef<str>) {
        if !self.line.is_empty() {
            self.line.push_str("; ");
        }
        self.line.push_str(text.as_ref());
    }

    fn running(&self) -> BTreeMap<Key, u64> {
        let mut running = BTreeMap::new();
        for gateway in &self.gateways {
            for call in gateway.vms.iter().flat_map(Vm::running) {
                *running.entry(key(gateway.number, call)).or_default() += call.route.units;
            }
        }
        running
    }

    fn step(&mut self, step: &Step) -> Rule {
        match *step {
            Step::Call { gateway, worker, account, service } => {
                let call = Call { account: ACCOUNTS[account].0, route: ROUTES[service] };
                self.call(gateway, worker, call);
            }
            Step::Finish { nth, succeeds } => {
                let running = |place: &(usize, usize)| {
                    self.gateways[place.0].vms[place.1].running().next().is_some()
                };
                let places =
                    (0..GATEWAYS).flat_map(|gateway| (0..WORKERS).map(move |vm| (gateway, vm)));
                let places: Vec<(usize, usize)> = places.filter(running).collect();
                if !places.is_empty() {
                    let (gateway, vm) = places[nth.min(places.len() - 1)];
                    self.finish(gateway, vm, succeeds);
                }
            }
            Step::Exchange { nth } => {
                if let Some(place) = self.pick(nth, |flight| flight.reply.is_none()) {
                    let is_awaited = self.flights[place].is_awaited;
                    self.arrive(place)?;
                    if is_awaited {
                        self.answer(place);
                    }
                }
            }
            Step::Arrive { nth } => {
                if let Some(place) = self.pick(nth, |flight| flight.reply.is_none()) {
                    return self.arrive(place);
                }
            }
            Step::Answer { nth } => {
                if let Some(place) = self.pick(nth, |flight| flight.reply.is_some()) {
                    self.answer(place);
                }
            }
            Step::Lose { nth } => {
                if let Some(place) = self.pick(nth, |_| true) {
                    let flight = self.flights.remove(place);
                    if flight.says_something() {
                        let what = if flight.reply.is_some() { "the reply to " } else { "" };
                        self.tell(format!("{what}message {} is lost", flight.number));
                    }
                    self.give_up(&flight, 503);
                }
            }
            Step::Repeat { nth } => {
                if !self.taken_in.is_empty() {
                    let nth = nth.min(self.taken_in.len() - 1);
                    let (number, process, body) = self.taken_in[nth].clone();
                    self.tell_sidecar(process, &body, &format!("message {number} again"))?;
                }
            }
            Step::Pass { ms } => self.pass(ms),
            _ => self.order(step),
        }
        Ok(())
    }

    /// What people do, and the sidecar's job.
    fn order(&mut self, step: &Step) {
        match *step {
            Step::Crash { gateway } => self.crash(gateway),
            Step::Reclaim => {
                self.tell("the sidecar takes back what ran out");
                self.reclaim();
            }
            Step::Credit { account, nanos } => {
                let (account, _) = ACCOUNTS[account];
                self.tell(format!("{account} gets {nanos}"));
                self.credit(account, nanos);
            }
            Step::Price { service, nanos } => {
                let (service, ..) = SERVICES[service];
                self.tell(format!("{service} costs {nanos} from now on"));
                self.model.prices.insert(service.to_owned(), nanos);
                self.sidecar.change_price(service, nanos);
            }
            Step::Freeze { account, frozen } => {
                let (account, _) = ACCOUNTS[account];
                let how = if frozen { "frozen" } else { "thawed" };
                self.tell(format!("{account} is {how}"));
                self.freeze(account, frozen);
            }
            Step::MonthEnd => {
                self.tell("the month ends");
                self.model.month += 1;
                self.sidecar.end_month();
            }
            _ => {}
        }
    }

    fn reclaim(&mut self) {
        let before = self.sidecar.books();
        self.sidecar.reclaim();
        let after = self.sidecar.books();
        let running = self.running();
        for (lease, row) in before.leases {
            if row.units.open && !after.leases[&lease].units.open {
                self.model.reclaim(lease, &running);
            }
        }
    }

    fn credit(&mut self, account: &str, nanos: i64) {
        *self.model.credited.entry(account.to_owned()).or_default() += nanos;
        self.sidecar.credit(account, nanos);
    }

    fn freeze(&mut self, account: &str, frozen: bool) {
        if frozen {
            self.model.frozen.insert(account.to_owned());
        } else {
            self.model.frozen.remove(account);
        }
        self.sidecar.freeze(account, frozen);
    }

    fn call(&mut self, gateway: usize, worker: usize, call: Call) {
        let number = self.gateways[gateway].number;
        let Call { account, route } = call;
        self.tell(format!("{account} calls {} at {}", route.service, told::worker(number, worker)));
        self.gateways[gateway].vms[worker].call(call);
        self.look_at(gateway, worker);
    }

    fn finish(&mut self, gateway: usize, vm: usize, succeeds: bool) {
        let Some(call) = self.gateways[gateway].vms[vm].finish(succeeds) else { return };
        let number = self.gateways[gateway].number;
        if succeeds {
            self.model.serve(key(number, &call), call.route.units);
        }
        let how = if succeeds { "succeeds" } else { "fails" };
        self.tell(format!("{} {how}", told::call(&call, number, vm)));
        self.look_at(gateway, vm);
    }

    fn pass(&mut self, ms: u64) {
        self.passed_ms += ms;
        let slice = if TIMEOUT_MS < ms { TIMEOUT_MS } else { SYNC_INTERVAL_MS };
        for _ in 0..ms / slice {
            self.now_ms += slice;
            self.sidecar.pass(slice);
            for gateway in &self.gateways {
                gateway.process.pass(slice);
            }
            self.time_out();
            for gateway in 0..GATEWAYS {
                for vm in 0..WORKERS {
                    self.gateways[gateway].vms[vm].tick();
                    self.look_at(gateway, vm);
                }
            }
        }
        self.lose_strays();
    }

    fn crash(&mut self, gateway: usize) {
        let old = self.gateways[gateway].number;
        self.tell(format!(
            "{} is killed, {} starts",
            told::gateway_process(old),
            told::gateway_process(old + GATEWAYS)
        ));
        for flight in self.flights.iter_mut().filter(|flight| flight.process == old) {
            flight.is_awaited = false;
        }
        self.flights.retain(|flight| flight.is_awaited || flight.reply.is_none());
        self.gateways[gateway] = Gateway::start(old + GATEWAYS, self.now_ms);
    }
}

fn key(process: usize, call: &Call) -> Key {
    (process, call.account.to_owned(), call.route.service.to_owned())
}
