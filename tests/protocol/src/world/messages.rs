//! Messages under way between gateways and the sidecar, and what becomes of them.

use farebox_core::wire::{SyncReply, SyncRequest};

use super::{World, key, told};
use crate::model::{Broken, Rule};
use crate::process::Message;
use crate::sidecar::Sidecar;
use crate::vm::{Fate, TIMEOUT_MS};

/// Messages under way that nobody waits for any more; of more than these the oldest are lost.
const STRAYS_MAX: usize = 20;

/// A message under way, or the reply to it.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) number: usize,
    pub(super) process: usize,
    vm: usize,
    message: Message,
    pub(super) reply: Option<(u32, Vec<u8>)>,
    until_ms: u64,
    /// Its sender lives and has not given it up.
    pub(super) is_awaited: bool,
}

impl Flight {
    /// Whether a story needs to mention it.
    pub(super) fn says_something(&self) -> bool {
        let reply = self.reply.as_ref().and_then(|(_, body)| serde_json::from_slice(body).ok());
        told::request(&self.message.body).is_some()
            || reply.as_ref().and_then(told::reply).is_some()
    }
}

impl<S: Sidecar> World<S> {
    pub(super) fn pick(&self, nth: usize, is_meant: impl Fn(&Flight) -> bool) -> Option<usize> {
        let places = (0..self.flights.len()).filter(|&place| is_meant(&self.flights[place]));
        let places: Vec<usize> = places.collect();
        places.get(nth.min(places.len().saturating_sub(1))).copied()
    }

    /// What a worker has done: calls go on or are refused, messages are sent.
    pub(super) fn look_at(&mut self, gateway: usize, vm: usize) {
        let number = self.gateways[gateway].number;
        for (call, fate) in self.gateways[gateway].vms[vm].take_fates() {
            self.last_fate = Some(fate);
            if fate == Fate::GoesOn && !call.route.on_success {
                self.model.serve(key(number, &call), call.route.units);
            }
            self.tell(format!("{} {}", told::call(&call, number, vm), told::fate(fate)));
        }
        for message in self.gateways[gateway].vms[vm].take_sent() {
            self.sent += 1;
            if let Some(content) = told::request(&message.body) {
                let sender = told::worker(number, vm);
                self.tell(format!("{sender} sends message {}: {content}", self.sent));
            }
            self.flights.push(Flight {
                number: self.sent,
                process: number,
                vm,
                message,
                reply: None,
                until_ms: self.now_ms + TIMEOUT_MS,
                is_awaited: true,
            });
        }
    }

    pub(super) fn arrive(&mut self, place: usize) -> Rule {
        let flight = &self.flights[place];
        let (number, process, body) = (flight.number, flight.process, flight.message.body.clone());
        let reply = self.tell_sidecar(process, &body, &format!("message {number}"))?;
        // The latest first.
        self.taken_in.insert(0, (number, process, body));
        if self.flights[place].is_awaited {
            self.flights[place].reply = Some(reply);
        } else {
            self.flights.remove(place);
        }
        Ok(())
    }

    pub(super) fn tell_sidecar(
        &mut self,
        process: usize,
        body: &[u8],
        what: &str,
    ) -> Result<(u32, Vec<u8>), Broken> {
        let (status, reply) = self.sidecar.sync(body);
        if status != 200 {
            self.tell(format!("{what} reaches the sidecar"));
            return Err(format!("it answers {status}: {}", String::from_utf8_lossy(&reply)));
        }
        let sent: SyncRequest = serde_json::from_slice(body).map_err(|err| err.to_string())?;
        let read: SyncReply = serde_json::from_slice(&reply).map_err(|err| err.to_string())?;
        match told::reply(&read) {
            Some(content) => self.tell(format!("{what} reaches the sidecar, which {content}")),
            None if told::request(body).is_some() => {
                self.tell(format!("{what} reaches the sidecar"));
            }
            None => {}
        }
        self.model.take_in(process, &sent, &read)?;
        Ok((status, reply))
    }

    pub(super) fn answer(&mut self, place: usize) {
        let flight = self.flights.remove(place);
        if flight.says_something() {
            let receiver = told::worker(flight.process, flight.vm);
            self.tell(format!("the reply to message {} reaches {receiver}", flight.number));
        }
        if let Some((status, body)) = flight.reply {
            self.hand_over(flight.process, flight.vm, flight.message.token, (status, &body));
        }
    }

    /// Envoy tells the sender that no reply will come.
    pub(super) fn give_up(&mut self, flight: &Flight, status: u32) {
        if flight.is_awaited {
            self.hand_over(flight.process, flight.vm, flight.message.token, (status, &[]));
        }
    }

    pub(super) fn hand_over(
        &mut self,
        process: usize,
        vm: usize,
        token: u32,
        (status, body): (u32, &[u8]),
    ) {
        let alive = self.gateways.iter().position(|gateway| gateway.number == process);
        if let Some(gateway) = alive {
            self.gateways[gateway].vms[vm].answer(token, status, body);
            self.look_at(gateway, vm);
        }
    }

    /// Envoy gives up what took too long. A reply is lost then; a message may still arrive.
    pub(super) fn time_out(&mut self) {
        let now_ms = self.now_ms;
        let is_late = |flight: &Flight| flight.is_awaited && flight.until_ms <= now_ms;
        while let Some(place) = self.flights.iter().position(is_late) {
            let flight = self.flights.remove(place);
            if flight.says_something() {
                self.tell(format!("message {} is given up", flight.number));
            }
            self.give_up(&flight, 504);
            if flight.reply.is_none() {
                self.flights.insert(place, Flight { is_awaited: false, ..flight });
            }
        }
    }

    pub(super) fn lose_strays(&mut self) {
        while STRAYS_MAX < self.flights.iter().filter(|flight| !flight.is_awaited).count() {
            let oldest = self.flights.iter().position(|flight| !flight.is_awaited);
            oldest.map(|place| self.flights.remove(place));
        }
    }
}
