//! Random schedules: requests, ticks, answers in any order, lost and doubled ones, streams that end in all ways, time, and
//! workers that run in the middle of each other. Whatever happens, in the end what was served is charged, exactly once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use farebox_core::money::Nanos;
use farebox_wasm_host::sidecar::{Charge, Kind};
use farebox_wasm_host::{Access, Callout, CalloutAnswer, Hook, Random, Stream, Vm};

use crate::gateway::{Gateway, at, configuration, settings, sidecar, trace};

const ACCOUNTS: [&str; 3] = ["ann", "ben", "cid"];
const WORKERS: usize = 3;

/// A stream and what it costs.
struct Call {
    stream: Stream,
    account: &'static str,
    units: u64,
    on_success: bool,
}

/// Everything that can happen next.
struct World {
    gateways: Vec<Gateway>,
    random: Random,
    calls: Vec<Call>,
    /// On their way to the sidecar.
    callouts: Vec<(usize, Callout)>,
    /// On their way back.
    replies: Vec<(Callout, CalloutAnswer)>,
    /// Messages that reach the sidecar although their sender has given up.
    strays: Vec<(usize, Callout)>,
    served: BTreeMap<&'static str, u64>,
}

impl World {
    fn new(seed: u64) -> Rc<RefCell<Self>> {
        let mut sidecar = sidecar();
        for (account, amount) in ACCOUNTS.iter().zip(["0.050", "0.400", "5"]) {
            sidecar.credit(account, amount);
        }
        let sidecar = Rc::new(RefCell::new(sidecar));
        let mut random = Random::new(seed);
        let count = 1 + seed % 2;
        let gateways = (0..count).map(|number| {
            let mut configuration = configuration();
            configuration["gateway"] = format!("edge-{number}").into();
            Gateway::with(WORKERS, &settings(&configuration, random.number()), Rc::clone(&sidecar))
        });
        let gateways: Vec<Gateway> = gateways.collect();
        Rc::new(RefCell::new(Self {
            gateways,
            random,
            calls: Vec::new(),
            callouts: Vec::new(),
            replies: Vec::new(),
            strays: Vec::new(),
            served: BTreeMap::new(),
        }))
    }

    fn idle_worker(&mut self) -> Option<Vm> {
        let gateway = self.random.index(self.gateways.len());
        let vm = self.gateways[gateway].vms[self.random.index(WORKERS)].clone();
        (!vm.is_busy()).then_some(vm)
    }

    fn gather(&mut self) {
        for (number, gateway) in self.gateways.iter().enumerate() {
            self.callouts
                .extend(gateway.host.take_callouts().into_iter().map(|call| (number, call)));
        }
    }
}

/// Draws from a list that the world holds, as long as it is not empty.
fn draw<T>(
    world: &RefCell<World>,
    list: impl FnOnce(&mut World) -> (&mut Vec<T>, &mut Random),
) -> Option<T> {
    let mut world = world.borrow_mut();
    let (items, random) = list(&mut world);
    (!items.is_empty()).then(|| items.swap_remove(random.index(items.len())))
}

/// One thing happens. The world is borrowed only to choose it: while guests run, other things happen in between.
fn step(world: &Rc<RefCell<World>>) {
    let choice = world.borrow_mut().random.below(100);
    match choice {
        0..=34 => request(world),
        35..=49 => end_a_call(world),
        50..=69 => {
            let vm = world.borrow_mut().idle_worker();
            if let Some(vm) = vm {
                vm.tick();
            }
        }
        70..=91 => answer(world),
        92 => stray(world),
        93 => order(world),
        _ => pass_time(world),
    }
    world.borrow_mut().gather();
}

/// Mostly a little; sometimes so much that waits, refusals, idle times and leases run out.
fn pass_time(world: &RefCell<World>) {
    let (time, gateways) = {
        let mut world = world.borrow_mut();
        let longest = [60, 60, 60, 60, 60, 400, 400, 3_000, 12_000][world.random.index(9)];
        (world.random.below(longest), world.gateways.clone())
    };
    for gateway in &gateways {
        gateway.host.advance(Duration::from_millis(time));
    }
    time_out(world, gateways[0].host.now());
}

/// Envoy ends calls whose time is over; their messages may still arrive, and their replies do not.
fn time_out(world: &RefCell<World>, now: Duration) {
    let is_over = |call: &Callout| call.sent_at() + call.timeout() <= now && !call.vm().is_busy();
    let asked: Vec<_> =
        world.borrow_mut().callouts.extract_if(.., |(_, call)| is_over(call)).collect();
    let replied: Vec<_> =
        world.borrow_mut().replies.extract_if(.., |(call, _)| is_over(call)).collect();
    for (number, call) in asked {
        call.answer(CalloutAnswer::timeout());
        if world.borrow_mut().random.chance(30) {
            world.borrow_mut().strays.push((number, call));
        }
    }
    for (call, _) in replied {
        call.answer(CalloutAnswer::timeout());
    }
}

/// The sidecar takes back what has run out, or recalls what an account's leases hold.
fn order(world: &RefCell<World>) {
    let (gateway, account) = {
        let mut world = world.borrow_mut();
        (world.gateways[0].clone(), ACCOUNTS[world.random.index(ACCOUNTS.len())])
    };
    let now = u64::try_from(gateway.host.now().as_millis()).unwrap();
    let mut sidecar = gateway.sidecar.borrow_mut();
    sidecar.reclaim(now);
    sidecar.recall(account);
}

fn request(world: &RefCell<World>) {
    let Some(vm) = world.borrow_mut().idle_worker() else { return };
    let (account, kind) = {
        let random = &mut world.borrow_mut().random;
        (ACCOUNTS[random.index(ACCOUNTS.len())], random.below(10))
    };
    let (path, units, on_success) = match kind {
        0 => ("/v1/heavy/1", 5, false),
        1..=3 => ("/v1/payment/1", 1, true),
        4 => ("/v1/allow/1", 1, false),
        5 => ("/v1/grace/1", 1, false),
        _ => ("/v1/asset/1", 1, false),
    };
    let stream = vm.request(at(path, account));
    world.borrow_mut().calls.push(Call { stream, account, units, on_success });
}

/// A call leaves, or its upstream answers.
fn end_a_call(world: &RefCell<World>) {
    let Some(call) = draw(world, |world| (&mut world.calls, &mut world.random)) else { return };
    if call.stream.vm().is_busy() {
        world.borrow_mut().calls.push(call);
        return;
    }
    let choice = world.borrow_mut().random.below(10);
    let patience = world.borrow_mut().random.chance(70);
    if call.stream.is_paused() && patience {
        world.borrow_mut().calls.push(call);
        return;
    }
    let was_forwarded = call.stream.is_forwarded();
    let succeeded = match choice {
        0 => {
            call.stream.reset();
            false
        }
        1 if was_forwarded => {
            call.stream.complete(503);
            false
        }
        _ if was_forwarded => {
            call.stream.complete(200);
            true
        }
        _ => {
            call.stream.reset();
            false
        }
    };
    count(world, &call, was_forwarded, succeeded);
}

fn count(world: &RefCell<World>, call: &Call, was_forwarded: bool, succeeded: bool) {
    assert!(call.stream.is_settled(), "{:?}", call.stream.state());
    if was_forwarded && (succeeded || !call.on_success) {
        *world.borrow_mut().served.entry(call.account).or_default() += call.units;
    }
}

/// Something happens to a message: it arrives or not, its reply comes at once, later, never, twice.
fn answer(world: &RefCell<World>) {
    let late = draw(world, |world| (&mut world.replies, &mut world.random));
    if let Some((call, reply)) = late {
        if call.vm().is_busy() {
            world.borrow_mut().replies.push((call, reply));
        } else {
            call.answer(reply.clone());
            call.answer(reply);
        }
        return;
    }
    let Some((number, call)) = draw(world, |world| (&mut world.callouts, &mut world.random)) else {
        return;
    };
    if call.vm().is_busy() {
        world.borrow_mut().callouts.push((number, call));
        return;
    }
    let gateway = world.borrow().gateways[number].clone();
    let choice = world.borrow_mut().random.below(20);
    match choice {
        // The reply is lost.
        0 => {
            gateway.reply_to(&call);
            call.answer(CalloutAnswer::timeout());
        }
        // The message is lost.
        1 => {
            call.answer(CalloutAnswer::Reset);
        }
        // The sender gives up, and the message arrives later all the same.
        2 => {
            call.answer(CalloutAnswer::timeout());
            world.borrow_mut().strays.push((number, call));
        }
        // The message arrives twice.
        3 => {
            let reply = gateway.reply_to(&call);
            assert_eq!(gateway.reply_to(&call), reply);
            call.answer(reply);
        }
        // The reply takes its time.
        4..=9 => {
            let reply = gateway.reply_to(&call);
            world.borrow_mut().replies.push((call, reply));
        }
        _ => {
            let reply = gateway.reply_to(&call);
            call.answer(reply);
        }
    }
}

fn stray(world: &RefCell<World>) {
    let Some((number, call)) = draw(world, |world| (&mut world.strays, &mut world.random)) else {
        return;
    };
    let gateway = world.borrow().gateways[number].clone();
    gateway.reply_to(&call);
}

/// Lets other workers run in the middle of guest calls.
fn interleave(world: &Rc<RefCell<World>>) {
    for gateway in &world.borrow().gateways {
        let weak = Rc::downgrade(world);
        gateway.host.before_shared_data(move |access| {
            let Some(world) = weak.upgrade() else { return Hook::Remove };
            let percent = match access {
                Access::Get { .. } => 1,
                Access::Set { .. } => 25,
            };
            let happens = world.borrow_mut().random.chance(percent);
            if happens {
                step(&world);
            }
            Hook::Keep
        });
    }
}

/// The storm is over: everything is answered, every stream ends, and time passes.
fn calm_down(world: &Rc<RefCell<World>>) {
    let gateways = world.borrow().gateways.clone();
    for gateway in &gateways {
        gateway.host.remove_hook();
    }
    world.borrow_mut().gather();
    let late = std::mem::take(&mut world.borrow_mut().replies);
    for (call, reply) in late {
        call.answer(reply);
    }
    let asked = std::mem::take(&mut world.borrow_mut().callouts);
    for (number, call) in asked {
        call.answer(gateways[number].reply_to(&call));
    }
    let pass = |milliseconds: u64| {
        for _ in 0..milliseconds / 10 {
            for gateway in &gateways {
                gateway.pass(10);
            }
        }
    };
    pass(3_000);
    let calls = std::mem::take(&mut world.borrow_mut().calls);
    for call in calls {
        let was_forwarded = call.stream.is_forwarded();
        if was_forwarded {
            call.stream.complete(200);
        }
        count(world, &call, was_forwarded, was_forwarded);
    }
    pass(12_000);
}

fn run(seed: u64, steps: usize) {
    let world = World::new(seed);
    interleave(&world);
    for _ in 0..steps {
        step(&world);
    }
    calm_down(&world);
    let world = world.borrow();
    let now = world.gateways[0].host.now().as_millis();
    let mut sidecar = world.gateways[0].sidecar.borrow_mut();
    sidecar.reclaim(u64::try_from(now).unwrap() + 100_000);
    for gateway in &world.gateways {
        gateway.host.assert_no_faults();
    }
    let units = |kind| -> u64 {
        sidecar
            .charges()
            .iter()
            .filter(|charge| charge.kind == kind)
            .map(|charge| charge.units)
            .sum()
    };
    trace(|| {
        let (lease, late, journal) = (units(Kind::Lease), units(Kind::Late), units(Kind::Journal));
        let metric =
            |name| world.gateways.iter().map(|gateway| gateway.host.metric(name)).sum::<u64>();
        let (conflicts, blind) = (metric("farebox_cas_conflicts"), metric("farebox_blind_units"));
        format!(
            "seed {seed}: served {:?}, from leases {lease}, late {late}, journal {journal} of {blind}, conflicts {conflicts}",
            world.served
        )
    });
    for account in ACCOUNTS {
        let served = world.served.get(account).copied().unwrap_or(0);
        assert_eq!(
            sidecar.charged(account),
            served,
            "seed {seed}: charged and served units of {account}"
        );
        let is_beyond_a_lease =
            |charge: &Charge| charge.account.as_str() == account && charge.kind != Kind::Lease;
        if !sidecar.charges().iter().any(is_beyond_a_lease) {
            assert_eq!(
                sidecar.account(account).receivable,
                Nanos::ZERO,
                "seed {seed}: {account} owes nothing"
            );
        }
    }
}

#[test]
fn random_schedules_charge_exactly_what_they_serve() {
    let seeds = std::env::var("FAREBOX_SEEDS").ok();
    let range = match seeds.as_deref().and_then(|text| text.split_once("..")) {
        Some((from, to)) => {
            from.parse().expect("FAREBOX_SEEDS=FROM..TO")
                ..to.parse().expect("FAREBOX_SEEDS=FROM..TO")
        }
        None => 0..24,
    };
    for seed in range {
        let outcome = std::panic::catch_unwind(|| run(seed, 1_500));
        if let Err(panic) = outcome {
            eprintln!(
                "seed {seed} failed; repeat it alone with FAREBOX_SEEDS={seed}..{}",
                seed + 1
            );
            std::panic::resume_unwind(panic);
        }
    }
}
