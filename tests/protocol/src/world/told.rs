//! How a story names things.

use farebox_core::wire::{Grant, SyncReply, SyncRequest, Want};

use crate::step::GATEWAYS;
use crate::vm::{Call, Fate};

/// The gateway of a process.
pub(super) fn gateway(process: usize) -> String {
    format!("edge-{}", process % GATEWAYS + 1)
}

/// `edge-1`, or `edge-1 (run 2)` after a crash.
pub(super) fn gateway_process(process: usize) -> String {
    match process / GATEWAYS {
        0 => gateway(process),
        crashes => format!("{} (run {})", gateway(process), crashes + 1),
    }
}

pub(super) fn worker(process: usize, vm: usize) -> String {
    format!("{}/{vm}", gateway_process(process))
}

pub(super) fn call(call: &Call, process: usize, vm: usize) -> String {
    format!("{}'s {} call at {}", call.account, call.route.service, worker(process, vm))
}

pub(super) fn fate(fate: Fate) -> String {
    match fate {
        Fate::GoesOn => "goes on".to_owned(),
        Fate::Refused(status) => format!("is answered {status}"),
    }
}

/// What a message says; `None` when it says nothing.
pub(super) fn request(body: &[u8]) -> Option<String> {
    let Ok(request) = serde_json::from_slice::<SyncRequest>(body) else {
        return Some(String::from_utf8_lossy(body).into_owned());
    };
    let reports = request.reports.iter().map(|report| {
        let closed = if report.close { ", closed" } else { "" };
        format!(
            "lease {}: {} used, {} running, {} back{closed}",
            report.lease, report.used, report.in_flight, report.returned
        )
    });
    let wants = request.wants.iter().map(|Want { key, units, min, waiting, .. }| {
        let for_whom = if *waiting { "waiting" } else { "ahead of need" };
        format!("wants {units} {} for {}, at least {min}, {for_whom}", key.service, key.account)
    });
    list(reports.chain(wants))
}

/// What a reply says; `None` when it says nothing.
pub(super) fn reply(reply: &SyncReply) -> Option<String> {
    let acks = reply.acks.iter().map(|ack| {
        let over = if ack.open { "" } else { ", which is over" };
        format!("charges {} to lease {}{over}", ack.used, ack.lease)
    });
    let grants = reply.grants.iter().map(|grant| {
        let Grant { lease, key, free_units, paid_units, price, .. } = grant;
        let (service, account, price) = (&key.service, &key.account, price.get());
        format!("grants lease {lease}, {service} for {account}: {free_units} free + {paid_units} at {price}")
    });
    let refusals = reply.refusals.iter().map(|refusal| {
        let when = if refusal.soon { "soon grants" } else { "refuses" };
        format!("{when} {} for {}", refusal.key.service, refusal.key.account)
    });
    let recalls = reply.recalls.iter().map(|recall| format!("recalls lease {}", recall.lease));
    list(acks.chain(grants).chain(refusals).chain(recalls))
}

fn list(items: impl Iterator<Item = String>) -> Option<String> {
    let items: Vec<String> = items.collect();
    (!items.is_empty()).then(|| items.join(", "))
}
