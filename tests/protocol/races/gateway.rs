//! A process with three workers, and its sidecar: draws, refills, reports, ends of calls, recalls and settlement in any
//! order, with messages that are lost or doubled. In the end what was served is charged, and nothing is held.

use std::collections::BTreeMap;
use std::sync::Arc;

use farebox_core::wire::{SyncReply, SyncRequest};
use farebox_protocol_tests::memory::Memory;
use farebox_protocol_tests::model::{Key, Model};
use farebox_protocol_tests::process::{Message, Process, Writes};
use farebox_protocol_tests::sidecar::{Sidecar, TTL_MS};
use farebox_protocol_tests::vm::{ASSET, Call, Fate, Route, SYNC_INTERVAL_MS, VIDEO, Vm};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::mpsc::{Receiver, Sender, channel};
use shuttle::thread;

use crate::explore::{found, many_orders, process};

const WORKERS: usize = 3;
/// Schedules of each kind.
const ORDERS: usize = 150;
/// Rounds after which everything has come to rest, or never will.
const ROUNDS_MAX: usize = 40;
const MONEY: i64 = 60;

/// What a worker is to do next.
enum Order {
    Call(Call),
    Finish { succeeds: bool },
    FinishAll,
    Tick,
    Answer { token: u32, status: u32, body: Vec<u8> },
    Look(Sender<Seen>),
    Stop,
}

/// How a worker stands.
struct Seen {
    unfinished: usize,
    served: BTreeMap<Key, u64>,
}

/// What the sidecar is to do next.
enum Mail {
    Message { worker: usize, message: Message },
    Pass(u64),
    Look(Sender<usize>),
}

fn work(process: &Arc<Process>, number: usize, orders: &Receiver<Order>, sidecar: &Sender<Mail>) {
    let mut vm = Vm::new(process, "edge-1");
    let mut served: BTreeMap<Key, u64> = BTreeMap::new();
    while let Ok(order) = orders.recv() {
        let mut charged = Vec::new();
        match order {
            Order::Call(call) => vm.call(call),
            Order::Finish { succeeds } => charged.extend(vm.finish(succeeds).filter(|_| succeeds)),
            Order::FinishAll => charged.extend(std::iter::from_fn(|| vm.finish(true))),
            Order::Tick => vm.tick(),
            Order::Answer { token, status, body } => vm.answer(token, status, &body),
            Order::Look(seen) => {
                let unfinished = vm.waiting() + vm.running().count();
                seen.send(Seen { unfinished, served: served.clone() }).unwrap();
            }
            Order::Stop => return,
        }
        let forwarded = vm.take_fates().into_iter().filter(|(_, fate)| *fate == Fate::GoesOn);
        charged.extend(forwarded.map(|(call, _)| call).filter(|call| !call.route.on_success));
        for Call { account, route } in charged {
            let key = (0, account.to_owned(), route.service.to_owned());
            *served.entry(key).or_default() += route.units;
        }
        for message in vm.take_sent() {
            sidecar.send(Mail::Message { worker: number, message }).unwrap();
        }
    }
}

/// Answers messages; some are lost, some replies are, some messages arrive twice.
fn answer(mails: &Receiver<Mail>, workers: &[Sender<Order>]) -> (Memory, Model) {
    let (mut memory, mut model) = (Memory::default(), Model::new());
    memory.credit("ann", MONEY);
    model.credited.insert("ann".to_owned(), MONEY);
    let mut taken_in = 0;
    while let Ok(mail) = mails.recv() {
        let (worker, message) = match mail {
            Mail::Message { worker, message } => (worker, message),
            Mail::Pass(ms) => {
                memory.pass(ms);
                continue;
            }
            Mail::Look(seen) => {
                seen.send(taken_in).unwrap();
                continue;
            }
        };
        taken_in += 1;
        let Message { token, body, .. } = message;
        let (mut status, mut reply) = (503, Vec::new());
        let fate = thread_rng().gen_range(0..10);
        let times = [0, 1, 2].get(fate).copied().unwrap_or(1);
        for _ in 0..times {
            (status, reply) = memory.sync(&body);
            assert_eq!(status, 200, "{}", String::from_utf8_lossy(&reply));
            let sent: SyncRequest = serde_json::from_slice(&body).unwrap();
            let read: SyncReply = serde_json::from_slice(&reply).unwrap();
            model.take_in(0, &sent, &read).unwrap();
        }
        if fate == 1 {
            (status, reply) = (504, Vec::new());
        }
        workers[worker].send(Order::Answer { token, status, body: reply }).unwrap();
    }
    (memory, model)
}

/// The process, seen by those who call through it.
struct Gateway {
    process: Arc<Process>,
    workers: Vec<Sender<Order>>,
    sidecar: Sender<Mail>,
}

impl Gateway {
    fn pass(&self, ms: u64) {
        self.process.pass(ms);
        self.sidecar.send(Mail::Pass(ms)).unwrap();
        for worker in &self.workers {
            worker.send(Order::Tick).unwrap();
        }
    }

    fn look(&self) -> Vec<Seen> {
        let look = |worker: &Sender<Order>| {
            let (sender, seen) = channel();
            worker.send(Order::Look(sender)).unwrap();
            seen.recv().unwrap()
        };
        self.workers.iter().map(look).collect()
    }

    fn messages(&self) -> usize {
        let (sender, seen) = channel();
        self.sidecar.send(Mail::Look(sender)).unwrap();
        seen.recv().unwrap()
    }

    /// Waits until no message is under way.
    fn wait(&self) -> Vec<Seen> {
        let mut before = usize::MAX;
        loop {
            let seen = self.look();
            let now = self.messages();
            if before == now {
                return seen;
            }
            before = now;
        }
    }
}

/// Calls, ticks and ends of calls, sent to all workers without waiting for any.
fn traffic(gateway: &Gateway) {
    let call = |route: Route| Order::Call(Call { account: "ann", route });
    for round in 0..2 {
        for worker in &gateway.workers {
            worker.send(call(ASSET)).unwrap();
            worker.send(call(VIDEO)).unwrap();
        }
        gateway.pass(SYNC_INTERVAL_MS);
        for (number, worker) in gateway.workers.iter().enumerate() {
            worker.send(call(ASSET)).unwrap();
            worker.send(Order::Finish { succeeds: number != round }).unwrap();
        }
    }
}

fn life_of_a_process(writes: Writes) {
    let process = Arc::new(process(writes));
    let (sidecar, mails) = channel();
    let (workers, orders): (Vec<_>, Vec<_>) = (0..WORKERS).map(|_| channel()).unzip();
    let mut threads = Vec::new();
    for (number, orders) in orders.into_iter().enumerate() {
        let (process, sidecar) = (Arc::clone(&process), sidecar.clone());
        threads.push(thread::spawn(move || work(&process, number, &orders, &sidecar)));
    }
    let answers = workers.clone();
    let authority = thread::spawn(move || answer(&mails, &answers));
    let gateway = Gateway { process, workers, sidecar };
    traffic(&gateway);
    let mut seen = gateway.wait();
    for _ in 0..ROUNDS_MAX {
        gateway.pass(2 * SYNC_INTERVAL_MS);
        gateway.workers.iter().for_each(|worker| worker.send(Order::FinishAll).unwrap());
        seen = gateway.wait();
    }
    assert!(seen.iter().all(|seen| seen.unfinished == 0), "a call is stuck");
    gateway.workers.iter().for_each(|worker| worker.send(Order::Stop).unwrap());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    drop(gateway);
    let (mut memory, mut model) = authority.join().unwrap();
    for (key, units) in seen.into_iter().flat_map(|seen| seen.served) {
        model.serve(key, units);
    }
    // A lease whose reply was lost is known to the sidecar alone, and runs out.
    memory.pass(2 * TTL_MS);
    memory.reclaim();
    let books = memory.books();
    model.check(&books, &BTreeMap::new()).unwrap();
    model.check_end(&books, |_| true).unwrap();
}

#[test]
fn what_was_served_is_charged_in_every_order() {
    many_orders(ORDERS, || life_of_a_process(Writes::Checked));
}

#[test]
fn without_compare_and_swap_it_is_not() {
    let text = found(|| many_orders(ORDERS, || life_of_a_process(Writes::Blind)));
    assert!(text.contains("charged units") || text.contains("forwarded calls"), "{text}");
}
