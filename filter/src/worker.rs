//! One VM: metered calls come in, units are drawn or waited for, and one worker per process talks to the sidecar.

mod asking;
mod leading;
mod measuring;
mod moving;
mod roll_call;
mod strict;
mod ticket;
mod undoing;

use std::collections::{BTreeMap, BTreeSet};

use farebox_core::assertion::{self, Claims, Key};
use farebox_core::id::{AccountId, GatewayId};
use farebox_core::money::Nanos;
use farebox_core::wire::{LeaseKey, Report};

use crate::answer::{Caller, Funds, Reason};
use crate::config::Config;
use crate::control;
use crate::host::Host;
use crate::identity;
use crate::pairs::{self, Pair};
use crate::record::{Drawn, Journal, Record};
use crate::request::{Request, caller_of, header, strip_own_headers};
use crate::routes::{Parsed, Routes};
use crate::rule::Mode;
use crate::running::Running;
use crate::stats::Stat;
use crate::sync::{self, Sent, Timing};
use crate::table::{self, Set, Write};
use crate::trace::Trace;
use crate::waiting::{Call, WAITING_MAX, Waiter, Waiting};
use asking::Question;
use measuring::Measures;
use moving::Moved;
use roll_call::Life;
use strict::Strict;
use ticket::{Held, Source, Ticket};
use undoing::Undoing;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It goes on.
    Continue,
    /// It waits, or has been answered.
    Pause,
}

/// What a draw came to.
enum Draw {
    Done { source: Source, drawn: Drawn },
    Lacking,
    Refused(Box<Record>),
    Stuck,
}

/// The state of one VM under one plugin configuration.
#[derive(Debug)]
pub struct Worker {
    config: Config,
    gateway: GatewayId,
    /// Signs who calls, on routes that say so.
    key: Key,
    /// Random name among the workers of the process.
    name: u64,
    seed: Option<u64>,
    routes: Routes,
    waiting: Waiting,
    /// The request whose callback is running, and what becomes of it: it is not paused yet, so it cannot be resumed.
    arriving: Option<(u32, Next)>,
    tickets: BTreeMap<u32, Ticket>,
    moved: Moved,
    strict: Strict,
    undos: Undoing,
    questions: BTreeMap<u32, Question>,
    /// Strict calls that may still be sent before the next tick, beside those that just arrive.
    sends_left: usize,
    /// A report of the leader that was not answered; it is sent again as it was.
    unanswered: Option<Sent>,
    /// Reports of leases that have no record, by lease: the next message gives them back.
    orphans: BTreeMap<u64, Report>,
    recalled: BTreeSet<usize>,
    measures: Measures,
    life: Life,
    away_until_ms: u64,
    /// When the sidecar last gave an answer that could be used.
    heard_ms: u64,
    talk_until_ms: u64,
    next_report_ms: u64,
    /// When this VM last said anything.
    said_at_ms: u64,
    heartbeat_ms: u64,
    ticks_fast: bool,
}

impl Worker {
    /// A worker for a valid configuration; `key` belongs to its gateway token.
    pub fn new(host: &impl Host, config: Config, gateway: GatewayId, key: Key) -> Self {
        host.tick_every_ms(config.sync_interval_ms);
        Self {
            config,
            gateway,
            key,
            name: host.random().max(1),
            seed: None,
            routes: Routes::default(),
            waiting: Waiting::default(),
            arriving: None,
            tickets: BTreeMap::new(),
            moved: Moved::default(),
            strict: Strict::default(),
            undos: Undoing::default(),
            questions: BTreeMap::new(),
            sends_left: strict::SENDS_MAX,
            unanswered: None,
            orphans: BTreeMap::new(),
            recalled: BTreeSet::new(),
            measures: Measures::default(),
            life: Life::default(),
            away_until_ms: 0,
            heard_ms: 0,
            talk_until_ms: 0,
            next_report_ms: 0,
            said_at_ms: 0,
            heartbeat_ms: leading::HEARTBEAT_MS,
            ticks_fast: false,
        }
    }

    fn seed(&mut self, host: &impl Host) -> Option<u64> {
        if self.seed.is_none() {
            self.seed = control::load(host).map(|control| control.seed());
        }
        self.seed
    }

    /// Times for the leader's reports, which may be repeated as they were.
    fn timing(&self, now: u64) -> Timing {
        let answer_within_ms = self.config.sidecar.timeout_ms.saturating_mul(3);
        Timing {
            now,
            idle_return_ms: self.config.idle_return_ms,
            answer_within_ms,
            budget: self.config.max_at_risk,
        }
    }

    // === Requests

    /// A request arrives.
    pub fn on_request(&mut self, host: &impl Host, stream: u32, request: &impl Request) -> Next {
        let bytes = request.headers();
        let headers = pairs::decode(&bytes);
        strip_own_headers(&headers, request);
        let is_charged = self.take_over(host, stream, request);
        let caller = caller_of(&headers);
        let (shadow, metered) = match self.routes.rule_of(
            host,
            &self.config.rules,
            request,
            header(&headers, b":path"),
        ) {
            Parsed::Metered(rule) => (rule.shadow, Some(rule)),
            Parsed::Asserted { shadow } => (shadow, None),
            Parsed::Unmetered => return Next::Continue,
            Parsed::NoRule => return refuse(host, stream, caller, &Reason::NoRule),
            Parsed::Broken => return refuse(host, stream, caller, &Reason::Misconfigured),
        };
        let claim = |payload: &str, claim: &str| request.claim(payload, claim);
        let account = match identity::find(&self.config.identity, &headers, claim) {
            Ok(account) => account,
            Err(err) => {
                return refuse_unless_shadow(host, shadow, stream, caller, &Reason::Identity(err));
            }
        };
        let Some(rule) = metered else {
            request.set_header(assertion::HEADER, &self.assertion(host, account));
            return Next::Continue;
        };
        let key = LeaseKey { account, service: rule.service.clone(), price: rule.price };
        if is_charged {
            return Next::Continue;
        }
        self.meter(host, Call { stream, key, rule, caller }, &headers)
    }

    /// What the sidecar is told about who calls.
    fn assertion(&self, host: &impl Host, account: AccountId) -> String {
        let claims = Claims::new(self.gateway.as_str(), account, host.unix_s());
        assertion::sign(&self.key, &claims)
    }

    fn meter(&mut self, host: &impl Host, call: Call, headers: &[Pair<'_>]) -> Next {
        if call.rule.units == 0 {
            host.count(Stat::Admitted, 1);
            return Next::Continue;
        }
        let now = host.now_ms();
        if call.rule.mode == Mode::Strict {
            return self.deduct(host, call, Trace::of(headers), now);
        }
        let Some(seed) = self.seed(host) else { return self.unreachable(host, &call, now) };
        // Calls that wait already are served first.
        if self.waiting.group(&call.key).is_none() {
            match draw(host, seed, &call, now) {
                Draw::Done { source, drawn } => {
                    self.admit(host, &call, source, drawn);
                    return Next::Continue;
                }
                Draw::Refused(record) => return self.refused(host, &call, &record, now),
                Draw::Stuck => return self.unreachable(host, &call, now),
                Draw::Lacking => {}
            }
        }
        if now < self.away_until_ms {
            return self.unreachable(host, &call, now);
        }
        if self.is_crowded(host) {
            return turn_away(host, &call, &Reason::Overloaded);
        }
        let until_ms = now.saturating_add(self.config.max_wait_ms);
        self.arriving = Some((call.stream, Next::Pause));
        self.waiting.push(Waiter { call, until_ms, trace: Trace::of(headers) });
        self.ask(host, now);
        // Asking may have decided the call at once, for instance because no callout could be sent.
        self.arriving.take().map_or(Next::Pause, |(_, next)| next)
    }

    /// The sidecar has given an answer that could be used: it is there.
    fn heard(&mut self, now: u64) {
        self.away_until_ms = 0;
        self.heard_ms = now;
    }

    /// Whether no more calls may wait.
    fn is_crowded(&self, host: &impl Host) -> bool {
        let waiting = self.waiting.len().saturating_add(self.strict.len());
        WAITING_MAX <= waiting.saturating_add(host.untold())
    }

    /// Lets a call go on that has waited, or that is just arriving.
    fn release(&mut self, host: &impl Host, stream: u32) {
        match &mut self.arriving {
            Some((arriving, next)) if *arriving == stream => *next = Next::Continue,
            Some(_) | None => host.resume(stream),
        }
    }

    fn refused(&self, host: &impl Host, call: &Call, record: &Record, now: u64) -> Next {
        let funds = Funds::of(record, call.rule.units, now);
        turn_away(host, call, &Reason::Funds(funds))
    }

    /// The call has no units and the sidecar cannot be asked: what the route's rule says then.
    fn unreachable(&mut self, host: &impl Host, call: &Call, now: u64) -> Next {
        let limit = call.rule.on_unreachable.limit();
        if 0 < limit
            && let Some(seed) = self.seed(host)
            && let Some((line, roll, must_queue)) = self.allow_blind(host, seed, call, limit, now)
        {
            host.count(Stat::BlindUnits, call.rule.units);
            let drawn = Drawn {
                free: 0,
                paid: call.rule.units,
                price: call.key.price.unwrap_or(Nanos::ZERO),
            };
            let set = table::set_of(seed, &call.key);
            if must_queue {
                control::mark_changed(host, set);
            }
            let source = Source::Shared(Held::JournalLine { set, line }, roll);
            self.admit(host, call, source, drawn);
            return Next::Continue;
        }
        turn_away(host, call, &Reason::Unreachable)
    }

    fn allow_blind(
        &self,
        host: &impl Host,
        seed: u64,
        call: &Call,
        limit: u64,
        now: u64,
    ) -> Option<(u64, u64, bool)> {
        let new_line = host.random().max(1);
        table::update(host, table::set_of(seed, &call.key), |content| {
            let Some((place, mut record)) = sync::place_for(content, &call.key, self.timing(now))
            else {
                return (None, Write::No);
            };
            if !record.journal.allow(call.rule.units, call.rule.charge_on, limit, new_line) {
                return (None, Write::No);
            }
            record.last_draw_ms = now;
            let must_queue = !std::mem::replace(&mut record.queued, true);
            content.put(place, &record);
            let Journal { line, in_flight: Running { roll, .. }, .. } = record.journal;
            (Some((line, roll, must_queue)), Write::Yes)
        })
        .flatten()
    }
}

/// Draws a call's units from the shared lease.
fn draw(host: &impl Host, seed: u64, call: &Call, now: u64) -> Draw {
    let set = table::set_of(seed, &call.key);
    let attempt = |content: &mut Set| {
        let units = call.rule.units;
        let Some((place, mut record)) = content.current(&call.key) else {
            return ((Draw::Lacking, false), Write::No);
        };
        match record.draw(units, call.rule.charge_on, now) {
            Ok(drawn) => {
                let must_queue = !std::mem::replace(&mut record.queued, true);
                content.put(place, &record);
                let held = Held::Lease { set, lease: record.lease };
                let source = Source::Shared(held, record.in_flight.roll);
                ((Draw::Done { source, drawn }, must_queue), Write::Yes)
            }
            Err(lacking) if record.refuses(lacking, now) => {
                ((Draw::Refused(Box::new(record)), false), Write::No)
            }
            Err(_) => ((Draw::Lacking, false), Write::No),
        }
    };
    let (draw, must_queue) = table::update(host, set, attempt).unwrap_or((Draw::Stuck, false));
    if must_queue {
        control::mark_changed(host, set);
    }
    draw
}

fn refuse(host: &impl Host, stream: u32, caller: Caller, reason: &Reason) -> Next {
    host.count(reason.stat(), 1);
    host.answer(stream, &reason.answer(caller));
    Next::Pause
}

/// Refuses a call, or lets it pass and counts it when its route is only watched.
fn refuse_unless_shadow(
    host: &impl Host,
    shadow: bool,
    stream: u32,
    caller: Caller,
    reason: &Reason,
) -> Next {
    if shadow {
        host.count(Stat::ShadowRefused, 1);
        return Next::Continue;
    }
    refuse(host, stream, caller, reason)
}

fn turn_away(host: &impl Host, call: &Call, reason: &Reason) -> Next {
    refuse_unless_shadow(host, call.rule.shadow, call.stream, call.caller, reason)
}
