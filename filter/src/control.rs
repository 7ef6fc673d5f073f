//! What all workers of one Envoy process agree on, kept in shared data: the process's random name, the epoch that the
//! sidecar gave it, its name there, which worker leads, the numbers of messages, and which sets have something to report.

use std::cell::Cell;

use farebox_core::id::GatewayId;

use crate::host::{CAS_OF_MISSING, Host, SetOutcome};
use crate::table::SETS;

// Numbers after names are the layout's version, one for all: a filter of another layout in the same process is an
// instance of its own, with its own leases and its own leader.
const CONTROL: &str = "farebox/control/2";
const SEQ: &str = "farebox/seq/2";
const NAME: &str = "farebox/gateway/2";
const TRIES_MAX: usize = 64;

/// Sets per page of the list of changes.
const PAGE_SETS: usize = 512;
/// Pages of the list of changes.
const PAGES: usize = SETS / PAGE_SETS;
const PAGE_BYTES: usize = PAGE_SETS / 8;

/// How long a leader may be silent before another worker takes over.
pub const LEADER_SILENCE_MS: u64 = 2_000;

/// The shared identity of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Control {
    /// Random, drawn by whichever worker is first.
    pub instance: u128,
    /// Given by the sidecar; 0 before its first reply.
    pub epoch: u64,
    /// The random name of the leading worker.
    pub leader: u64,
    /// Until when it leads without renewing.
    pub leads_until_ms: u64,
}

impl Control {
    /// The instance as the protocol spells it.
    pub fn instance_hex(&self) -> String {
        format!("{:032x}", self.instance)
    }

    /// The seed of the slot table.
    pub fn seed(&self) -> u64 {
        u64::try_from(self.instance & u128::from(u64::MAX)).unwrap_or(0)
    }

    fn encode(self) -> Vec<u8> {
        let mut bytes = self.instance.to_le_bytes().to_vec();
        for number in [self.epoch, self.leader, self.leads_until_ms] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (instance, rest) = bytes.split_first_chunk::<16>()?;
        let (epoch, rest) = rest.split_first_chunk::<8>()?;
        let (leader, rest) = rest.split_first_chunk::<8>()?;
        let leads_until_ms = rest.first_chunk::<8>()?;
        Some(Self {
            instance: u128::from_le_bytes(*instance),
            epoch: u64::from_le_bytes(*epoch),
            leader: u64::from_le_bytes(*leader),
            leads_until_ms: u64::from_le_bytes(*leads_until_ms),
        })
    }
}

fn update_control(host: &impl Host, change: impl Fn(&mut Control)) -> Option<Control> {
    for _ in 0..TRIES_MAX {
        let stored = host.shared_get(CONTROL);
        let cas = stored.as_ref().map_or(CAS_OF_MISSING, |(_, cas)| *cas);
        let before = stored.and_then(|(bytes, _)| Control::decode(&bytes));
        let mut control = before.unwrap_or_else(|| Control {
            instance: (u128::from(host.random()) << 64) | u128::from(host.random()),
            ..Control::default()
        });
        change(&mut control);
        if before == Some(control) {
            return before;
        }
        match host.shared_set(CONTROL, &control.encode(), cas) {
            SetOutcome::Stored => return Some(control),
            SetOutcome::Conflict => {}
            SetOutcome::Failed => return None,
        }
    }
    None
}

/// The name under which this process speaks to the sidecar: that of the first configuration that came. To the sidecar, another
/// name is another gateway, whose reports of these leases are nobody's; so a name that changes does so when Envoy is started
/// again.
pub fn keep_name(host: &impl Host, name: GatewayId) -> GatewayId {
    for _ in 0..TRIES_MAX {
        if let Some((bytes, _)) = host.shared_get(NAME) {
            let kept = String::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
            return kept.unwrap_or(name);
        }
        match host.shared_set(NAME, name.as_str().as_bytes(), CAS_OF_MISSING) {
            SetOutcome::Stored | SetOutcome::Failed => return name,
            SetOutcome::Conflict => {}
        }
    }
    name
}

/// Reads the shared identity; the first worker creates it.
pub fn load(host: &impl Host) -> Option<Control> {
    update_control(host, |_| {})
}

/// Stores the epoch that the sidecar gave; 0 forgets it.
pub fn set_epoch(host: &impl Host, epoch: u64) {
    update_control(host, |control| control.epoch = epoch);
}

/// Whether a worker leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lead {
    /// Another one does.
    No,
    /// It does.
    Yes,
    /// It does, as the first one of its process: everything that happened so far is on the list of changes.
    First,
}

/// Takes the lead if nobody has it, or renews it.
pub fn lead(host: &impl Host, worker: u64, now: u64) -> Lead {
    let is_first = Cell::new(false);
    let control = update_control(host, |control| {
        if control.leader == worker || control.leads_until_ms <= now {
            is_first.set(control.leader == 0);
            control.leader = worker;
            control.leads_until_ms = now.saturating_add(LEADER_SILENCE_MS);
        }
    });
    match control {
        Some(control) if control.leader == worker => {
            if is_first.get() {
                Lead::First
            } else {
                Lead::Yes
            }
        }
        Some(_) | None => Lead::No,
    }
}

/// The number of the next message.
pub fn next_seq(host: &impl Host) -> Option<u64> {
    for _ in 0..TRIES_MAX {
        let (last, cas) = match host.shared_get(SEQ) {
            Some((bytes, cas)) => {
                (bytes.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes)), cas)
            }
            None => (0, CAS_OF_MISSING),
        };
        let seq = last.saturating_add(1);
        match host.shared_set(SEQ, &seq.to_le_bytes(), cas) {
            SetOutcome::Stored => return Some(seq),
            SetOutcome::Conflict => {}
            SetOutcome::Failed => return None,
        }
    }
    None
}

fn page_name(page: usize) -> String {
    format!("farebox/changed/2/{page}")
}

/// Puts a set on the list of changes.
///
/// When the host stores nothing the set is missing from the list; the leader's sweep over the whole table finds it later.
pub fn mark_changed(host: &impl Host, set: usize) {
    let page = set.checked_div(PAGE_SETS).unwrap_or(0);
    let bit = set.checked_rem(PAGE_SETS).unwrap_or(0);
    let (byte, mask) = (bit >> 3, 1_u8 << (bit & 7));
    let name = page_name(page);
    for _ in 0..TRIES_MAX {
        let (mut bits, cas) = read_page(host, &name);
        match bits.get_mut(byte) {
            Some(place) if *place & mask == 0 => *place |= mask,
            Some(_) | None => return,
        }
        if host.shared_set(&name, &bits, cas) != SetOutcome::Conflict {
            return;
        }
    }
}

fn read_page(host: &impl Host, name: &str) -> ([u8; PAGE_BYTES], u32) {
    match host.shared_get(name) {
        Some((bytes, cas)) => (bytes.first_chunk().copied().unwrap_or([0; PAGE_BYTES]), cas),
        None => ([0; PAGE_BYTES], CAS_OF_MISSING),
    }
}

/// The list of changes, as it stands.
pub fn changed(host: &impl Host) -> Vec<usize> {
    (0..PAGES).flat_map(|page| sets_of(page, read_page(host, &page_name(page)).0)).collect()
}

/// Empties the list of changes and returns it.
pub fn take_changed(host: &impl Host) -> Vec<usize> {
    let mut changed = Vec::new();
    for page in 0..PAGES {
        let name = page_name(page);
        for _ in 0..TRIES_MAX {
            let (bits, cas) = read_page(host, &name);
            if bits == [0; PAGE_BYTES] {
                break;
            }
            if host.shared_set(&name, &[0; PAGE_BYTES], cas) == SetOutcome::Stored {
                changed.extend(sets_of(page, bits));
                break;
            }
        }
    }
    changed
}

fn sets_of(page: usize, bits: [u8; PAGE_BYTES]) -> impl Iterator<Item = usize> {
    let first = page.saturating_mul(PAGE_SETS);
    (0..PAGE_SETS)
        .filter(move |bit| bits.get(bit >> 3).is_some_and(|byte| byte & (1 << (bit & 7)) != 0))
        .map(move |bit| first.saturating_add(bit))
}
