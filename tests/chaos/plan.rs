//! The plan of faults: a pure function of the seed and the minutes.
//!
//! Time is divided into rounds. The faults of a round begin and heal within it; then it is asked whether everybody is
//! served again. Kinds of faults are drawn like cards, without putting them back, so that each turns up before any does
//! twice.

use std::collections::BTreeMap;
use std::fmt;

use rand::rngs::ChaCha8Rng;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;

/// How many gateways and sidecars a campaign has.
pub(crate) const GATEWAYS: usize = 3;
pub(crate) const SIDECARS: usize = 2;

/// The gateway that is never ended: it is stopped, cut off and slowed down like the others, and loses nothing.
pub(crate) const STEADY: usize = GATEWAYS - 1;

/// How long faults may begin for in a round. What was begun last heals after it.
pub(crate) const ROUND_MS: u64 = 20_000;

/// A fault lasts between these two. The longest is below twice the lease's time: see `docs/chaos.md`.
const LENGTH_MS: (u64, u64) = (200, 4_000);

/// Between the beginnings of two faults.
const GAP_MS: (u64, u64) = (800, 3_200);

/// Streams of the seed's dice beside those of the faults and the clients: what is drawn from one changes nothing of another.
const ON_LOST: u64 = u64::MAX;
const MOVES: u64 = u64::MAX - 1;

/// How many rounds of a hundred have a gateway that moves to the other sidecar.
const MOVES_PERCENT: u64 = 60;

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    /// An Envoy, by number.
    Gateway(usize),
    /// A sidecar, by number.
    Sidecar(usize),
    /// MariaDB.
    Database,
    /// Redis.
    Redis,
    /// The payment service.
    Payment,
}

/// A connection between two parts, with a proxy on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wire {
    /// From a gateway to its sidecar's listener for gateways.
    GatewaySidecar(usize),
    /// From a gateway to its sidecar's listener for users.
    GatewayPublic(usize),
    /// From a gateway to the service behind it.
    GatewayUpstream(usize),
    /// From a sidecar to the database.
    SidecarDatabase(usize),
    /// From a sidecar to Redis.
    SidecarRedis(usize),
    /// From a sidecar to the payment service.
    SidecarPayment(usize),
    /// From the payment service to a sidecar: callbacks.
    PaymentSidecar(usize),
}

/// What a wire suffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Trouble {
    /// Everything comes later by so many milliseconds, and up to twice that.
    Latency(u64),
    /// Connections are reset.
    Reset,
    /// Connections are cut in the middle of a message, each after so many bytes.
    Cut(u64),
    /// Nothing passes, and nobody is told.
    Silence,
}

/// What is done to the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// `kill -9`; healing starts it again.
    Kill(Part),
    /// SIGSTOP; healing is SIGCONT.
    Pause(Part),
    /// SIGTERM, and started again at once.
    Restart(Part),
    /// A wire suffers.
    Network(Wire, Trouble),
    /// `FLUSHALL`.
    RedisFlush,
    /// `DEBUG SLEEP` for as long as the fault lasts.
    RedisSleep,
    /// A gateway has the other sidecar; healing leads it back.
    Move(usize),
    /// A sidecar's clock on the wall is off by so many seconds; healing sets it right.
    ClockStep(usize, i64),
    /// Somebody else holds the rows of all accounts locked.
    RowLocks,
    /// Somebody else locks rows of accounts in an order that gives deadlocks, again and again.
    Deadlocks,
    /// The database's disk is full.
    DiskFull,
    /// Prices change: both sidecars are told and started again, one after the other.
    PriceChange,
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    /// When it begins, after the beginning of its round.
    pub(crate) at_ms: u64,
    /// How long it lasts.
    pub(crate) length_ms: u64,
    /// What it is.
    pub(crate) what: What,
}

/// Who bears what a killed gateway had drawn and not reported: the sidecars' `leases.on_lost`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnLost {
    /// The operator: it is not charged.
    #[default]
    Reported,
    /// The account: what its leases held is charged.
    Granted,
}

/// All faults of a campaign, by round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Plan {
    /// What it was made from.
    pub(crate) seed: u64,
    /// Who bears what killed gateways had not reported.
    pub(crate) on_lost: OnLost,
    /// The rounds, each with its faults in order.
    pub(crate) rounds: Vec<Vec<Fault>>,
}

/// Kinds of faults, as they are drawn and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Card {
    KillGateway,
    KillSidecar,
    KillDatabase,
    KillRedis,
    KillPayment,
    PauseGateway,
    PauseSidecar,
    PauseDatabase,
    PauseRedis,
    PausePayment,
    RestartGateway,
    RestartSidecar,
    RestartDatabase,
    RestartRedis,
    RestartPayment,
    Latency,
    Reset,
    Cut,
    Silence,
    RedisFlush,
    RedisSleep,
    ClockStep,
    RowLocks,
    Deadlocks,
    DiskFull,
    PriceChange,
}

const CARDS: [Card; 28] = [
    Card::KillGateway,
    Card::KillSidecar,
    Card::KillDatabase,
    Card::KillRedis,
    Card::KillPayment,
    Card::PauseGateway,
    Card::PauseSidecar,
    Card::PauseDatabase,
    Card::PauseRedis,
    Card::PausePayment,
    Card::RestartGateway,
    Card::RestartSidecar,
    Card::RestartDatabase,
    Card::RestartRedis,
    Card::RestartPayment,
    Card::Latency,
    Card::Reset,
    Card::Cut,
    Card::Cut,
    Card::Reset,
    Card::Silence,
    Card::RedisFlush,
    Card::RedisSleep,
    Card::ClockStep,
    Card::RowLocks,
    Card::Deadlocks,
    Card::DiskFull,
    Card::PriceChange,
];

/// What may have one fault at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Part(Part),
    Wire(Wire),
    Clock(usize),
    Rows,
}

/// Draws numbers. Only whole words of the generator are used, whose values no version of a crate changes.
#[derive(Debug)]
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// Dice that fall the same for the same seed and purpose.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(purpose);
        Self(random)
    }

    /// A number below `end`; 0 when that is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64().checked_rem(end).unwrap_or(0)
    }

    /// A number between two, both included.
    pub(crate) fn between(&mut self, (from, to): (u64, u64)) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }

    /// An index below `end`.
    pub(crate) fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap_or(0)
    }

    /// True `percent` times in a hundred.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// The faults of a campaign of so many milliseconds.
pub(crate) fn plan(seed: u64, length_ms: u64) -> Plan {
    let mut dice = Dice::new(seed, 0);
    let mut deck = Vec::new();
    let count = length_ms.div_ceil(ROUND_MS).max(1);
    let mut moves = Dice::new(seed, MOVES);
    let round = |_| with_move(round(&mut dice, &mut deck), &mut moves);
    let rounds = (0..count).map(round).collect();
    let on_lost =
        if Dice::new(seed, ON_LOST).chance(50) { OnLost::Granted } else { OnLost::Reported };
    Plan { seed, on_lost, rounds }
}

fn round(dice: &mut Dice, deck: &mut Vec<Card>) -> Vec<Fault> {
    let (mut at_ms, mut faults) = (0, Vec::new());
    let mut busy: BTreeMap<Slot, u64> = BTreeMap::new();
    loop {
        at_ms += dice.between(GAP_MS);
        if ROUND_MS <= at_ms {
            return faults;
        }
        let (what, length_ms) = (draw(dice, deck), dice.between(LENGTH_MS));
        // A part that is broken already stays as it is; another card is drawn at the next beginning.
        let slots = slots(what);
        let is_free = |slot: &Slot| busy.get(slot).is_none_or(|until| *until <= at_ms);
        if slots.iter().all(is_free) {
            // A process takes a while to start again.
            let until = at_ms + length_ms + 2_000;
            busy.extend(slots.into_iter().map(|slot| (slot, until)));
            faults.push(Fault { at_ms, length_ms, what });
        }
    }
}

/// A round with a move in it, where its connection has no other fault meanwhile. Drawn beside the other faults: these stay
/// as they are for each seed.
fn with_move(mut faults: Vec<Fault>, dice: &mut Dice) -> Vec<Fault> {
    let (is_on, gateway) = (dice.chance(MOVES_PERCENT), dice.index(GATEWAYS));
    let (at_ms, length_ms) = (dice.between((GAP_MS.0, ROUND_MS - 1)), dice.between(LENGTH_MS));
    let new = Fault { at_ms, length_ms, what: What::Move(gateway) };
    let meets = |other: &Fault| {
        let is_shared = slots(other.what).iter().any(|slot| slots(new.what).contains(slot));
        is_shared && other.at_ms < at_ms + length_ms && at_ms < other.at_ms + other.length_ms
    };
    if is_on && !faults.iter().any(meets) {
        faults.insert(faults.partition_point(|fault| fault.at_ms <= at_ms), new);
    }
    faults
}

fn draw(dice: &mut Dice, deck: &mut Vec<Card>) -> What {
    if deck.is_empty() {
        deck.extend(CARDS);
    }
    let card = deck.swap_remove(dice.index(deck.len()));
    let gateway = Part::Gateway(dice.index(GATEWAYS));
    let mortal = Part::Gateway(dice.index(STEADY));
    let sidecar = dice.index(SIDECARS);
    let wire = wire(dice);
    match card {
        Card::KillGateway => What::Kill(mortal),
        Card::KillSidecar => What::Kill(Part::Sidecar(sidecar)),
        Card::KillDatabase => What::Kill(Part::Database),
        Card::KillRedis => What::Kill(Part::Redis),
        Card::KillPayment => What::Kill(Part::Payment),
        Card::PauseGateway => What::Pause(gateway),
        Card::PauseSidecar => What::Pause(Part::Sidecar(sidecar)),
        Card::PauseDatabase => What::Pause(Part::Database),
        Card::PauseRedis => What::Pause(Part::Redis),
        Card::PausePayment => What::Pause(Part::Payment),
        Card::RestartGateway => What::Restart(mortal),
        Card::RestartSidecar => What::Restart(Part::Sidecar(sidecar)),
        Card::RestartDatabase => What::Restart(Part::Database),
        Card::RestartRedis => What::Restart(Part::Redis),
        Card::RestartPayment => What::Restart(Part::Payment),
        Card::Latency => What::Network(wire, Trouble::Latency(dice.between((20, 400)))),
        Card::Reset => What::Network(wire, Trouble::Reset),
        Card::Cut => What::Network(wire, Trouble::Cut(dice.between((1, 6_000)))),
        Card::Silence => What::Network(wire, Trouble::Silence),
        Card::RedisFlush => What::RedisFlush,
        Card::RedisSleep => What::RedisSleep,
        Card::ClockStep => What::ClockStep(sidecar, clock_step(dice)),
        Card::RowLocks => What::RowLocks,
        Card::Deadlocks => What::Deadlocks,
        Card::DiskFull => What::DiskFull,
        Card::PriceChange => What::PriceChange,
    }
}

/// Forwards or backwards, by a second or by a day.
fn clock_step(dice: &mut Dice) -> i64 {
    let seconds = i64::try_from(dice.between((1, 86_400))).unwrap_or(1);
    if dice.chance(50) { seconds } else { -seconds }
}

fn wire(dice: &mut Dice) -> Wire {
    let (gateway, sidecar) = (dice.index(GATEWAYS), dice.index(SIDECARS));
    // The first three matter most, so they are on twice.
    match dice.below(10) {
        0..=1 => Wire::GatewaySidecar(gateway),
        2..=3 => Wire::SidecarDatabase(sidecar),
        4..=5 => Wire::GatewayUpstream(gateway),
        6 => Wire::GatewayPublic(gateway),
        7 => Wire::SidecarRedis(sidecar),
        8 => Wire::SidecarPayment(sidecar),
        _ => Wire::PaymentSidecar(sidecar),
    }
}

fn slots(what: What) -> Vec<Slot> {
    match what {
        What::Kill(part) | What::Pause(part) | What::Restart(part) => vec![Slot::Part(part)],
        What::Network(wire, _) => vec![Slot::Wire(wire)],
        What::Move(gateway) => {
            [Wire::GatewaySidecar(gateway), Wire::GatewayPublic(gateway)].map(Slot::Wire).into()
        }
        What::RedisFlush | What::RedisSleep => vec![Slot::Part(Part::Redis)],
        What::ClockStep(sidecar, _) => vec![Slot::Clock(sidecar)],
        What::RowLocks | What::Deadlocks => vec![Slot::Rows, Slot::Part(Part::Database)],
        What::DiskFull => vec![Slot::Part(Part::Database)],
        What::PriceChange => {
            (0..SIDECARS).map(|number| Slot::Part(Part::Sidecar(number))).collect()
        }
    }
}

// === impl OnLost ===

impl OnLost {
    /// As the sidecars' configuration has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Granted => "granted",
        }
    }
}

// === impl Part ===

impl Part {
    /// Every process of a campaign.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let gateways = (0..GATEWAYS).map(Self::Gateway);
        let sidecars = (0..SIDECARS).map(Self::Sidecar);
        gateways.chain(sidecars).chain([Self::Database, Self::Redis, Self::Payment])
    }
}

// === impl What ===

impl What {
    /// How it is counted in the report.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Kill(_) => "kill -9",
            Self::Pause(_) => "SIGSTOP",
            Self::Restart(_) => "restart",
            Self::Network(_, Trouble::Latency(_)) => "latency",
            Self::Network(_, Trouble::Reset) => "reset",
            Self::Network(_, Trouble::Cut(_)) => "cut mid-message",
            Self::Network(_, Trouble::Silence) => "silence",
            Self::RedisFlush => "FLUSHALL",
            Self::RedisSleep => "DEBUG SLEEP",
            Self::Move(_) => "other sidecar",
            Self::ClockStep(..) => "clock step",
            Self::RowLocks => "lock waits",
            Self::Deadlocks => "deadlocks",
            Self::DiskFull => "disk full",
            Self::PriceChange => "price change",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(number) => write!(f, "gateway {number}"),
            Self::Sidecar(number) => write!(f, "sidecar {number}"),
            Self::Database => f.write_str("MariaDB"),
            Self::Redis => f.write_str("Redis"),
            Self::Payment => f.write_str("payment service"),
        }
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GatewaySidecar(number) => write!(f, "gateway {number} → sidecar"),
            Self::GatewayPublic(number) => write!(f, "gateway {number} → sidecar (public)"),
            Self::GatewayUpstream(number) => write!(f, "gateway {number} → upstream"),
            Self::SidecarDatabase(number) => write!(f, "sidecar {number} → MariaDB"),
            Self::SidecarRedis(number) => write!(f, "sidecar {number} → Redis"),
            Self::SidecarPayment(number) => write!(f, "sidecar {number} → payment service"),
            Self::PaymentSidecar(number) => write!(f, "payment service → sidecar {number}"),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Self::Kill(part) | Self::Pause(part) | Self::Restart(part) => {
                write!(f, "{kind} {part}")
            }
            Self::Network(wire, Trouble::Latency(ms)) => write!(f, "{kind} {ms} ms, {wire}"),
            Self::Network(wire, Trouble::Cut(bytes)) => {
                write!(f, "{kind} after {bytes} bytes, {wire}")
            }
            Self::Network(wire, Trouble::Reset | Trouble::Silence) => write!(f, "{kind}, {wire}"),
            Self::Move(gateway) => write!(f, "{kind}, gateway {gateway}"),
            Self::ClockStep(sidecar, seconds) => {
                write!(f, "{kind} {seconds:+} s, sidecar {sidecar}")
            }
            Self::RedisFlush
            | Self::RedisSleep
            | Self::RowLocks
            | Self::Deadlocks
            | Self::DiskFull
            | Self::PriceChange => f.write_str(kind),
        }
    }
}

#[cfg(test)]
mod tests;
