//! The stack of a campaign: three gateways and two sidecars, with a proxy on each connection between two parts.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use farebox_tests::database::Database;
use farebox_tests::envoy::Template;
use farebox_tests::link::Link;
use farebox_tests::payment::CALLBACK_SECRET;
use farebox_tests::redis::Redis;
use farebox_tests::scratch::Scratch;
use farebox_tests::sidecar::{self, Addresses, Clock, Payment, Settings, Sidecar};
use farebox_tests::upstream::Upstream;
use farebox_tests::{Gateway, PaymentService, binaries, port};
use serde_json::json;

use crate::catalog::{BOOKS, FREE_QUOTAS, LEASE_TTL, plugin};
use crate::control::Control;
use crate::passes;
use crate::plan::{GATEWAYS, OnLost, Part, SIDECARS, Wire};

/// Set once this process has mounts of its own.
pub(crate) const OWN_MOUNTS: &str = "FAREBOX_CHAOS_OWN_MOUNTS";

/// What is kept of a database that has a breach.
const TABLES: &str = "SELECT table_name FROM information_schema.tables
  WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'";

/// Room on the database's disk.
const DISK: &str = "size=400m";

/// How often a gateway writes its access log out, in milliseconds: what a killed one had not written is not known.
const LOG_FLUSH_MS: &str = "200";

/// Which sidecar a gateway has.
pub(crate) fn sidecar_of(gateway: usize) -> usize {
    gateway % SIDECARS
}

/// Which one it has for a while.
pub(crate) fn other_sidecar_of(gateway: usize) -> usize {
    (sidecar_of(gateway) + 1) % SIDECARS
}

/// Everything that runs.
///
/// Fields are dropped from top to bottom: gateways before what they call, the directory last.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) sidecars: Vec<Sidecar>,
    pub(crate) payment: PaymentService,
    pub(crate) upstream: Upstream,
    pub(crate) redis: Redis,
    pub(crate) database: Database,
    pub(crate) links: BTreeMap<Wire, Link>,
    /// The database's own disk, where that could be had.
    pub(crate) disk: Option<PathBuf>,
    book: AtomicUsize,
    control: Control,
    on_lost: OnLost,
    scratch: Scratch,
}

/// The parts that sidecars need, while the site is being put together.
struct Neighbours<'a> {
    folder: &'a Path,
    database: &'a Database,
    links: &'a BTreeMap<Wire, Link>,
    control: Control,
    on_lost: OnLost,
}

impl Site {
    /// Starts everything and waits until it is ready.
    pub(crate) async fn start(control: Control, on_lost: OnLost) -> Result<Self> {
        let scratch = Scratch::new()?;
        let folder = scratch.path();
        let disk = disk(folder);
        let data = disk.clone().unwrap_or_else(|| folder.to_owned()).join("mariadb");
        let database = Database::start_in(folder, &data).await?;
        let redis = Redis::start(folder).await?;
        let upstream = Upstream::start().await?;
        let payment = PaymentService::start(folder).await?;
        let addresses: Vec<Addresses> = (0..SIDECARS).map(|_| addresses()).collect();

        let mut links = BTreeMap::new();
        for (wire, target) in wires(&addresses, &database, &redis, &payment, &upstream) {
            links.insert(wire, Link::start(target).await?);
        }
        let neighbours =
            Neighbours { folder, database: &database, links: &links, control, on_lost };
        let mut sidecars = Vec::new();
        for (number, addresses) in addresses.iter().enumerate() {
            sidecars.push(neighbours.sidecar(number, *addresses).await?);
        }
        neighbours.observer(addresses[0])?;
        let gateways = (0..GATEWAYS).map(|number| gateway(folder, number, &links));
        let gateways = futures_util::future::join_all(gateways).await;
        let gateways = gateways.into_iter().collect::<Result<_>>()?;
        let book = AtomicUsize::new(0);
        Ok(Self {
            gateways,
            sidecars,
            payment,
            upstream,
            redis,
            database,
            links,
            disk,
            book,
            control,
            on_lost,
            scratch,
        })
    }

    /// The directory with everybody's logs.
    pub(crate) fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// The command line, straight to the database: no fault is in between.
    pub(crate) fn observe(&self, arguments: &[&str]) -> Result<String> {
        Ok(sidecar::command_line(&self.folder().join("observer.yaml"), arguments)?)
    }

    /// Writes the other price book for both sidecars; it holds from the next start of one on.
    pub(crate) fn change_prices(&self) -> Result<()> {
        let book = self.book.fetch_xor(1, Ordering::SeqCst) ^ 1;
        let (folder, database, links) = (self.folder(), &self.database, &self.links);
        let Self { control, on_lost, .. } = *self;
        let neighbours = Neighbours { folder, database, links, control, on_lost };
        for (number, sidecar) in self.sidecars.iter().enumerate() {
            let settings = neighbours.settings(number, sidecar.addresses(), book)?;
            sidecar.configure(&settings)?;
        }
        Ok(())
    }

    /// Sets a sidecar's clock on the wall so many seconds off.
    pub(crate) fn step_clock(&self, sidecar: usize, seconds: i64) -> Result<()> {
        set_clock(&clock_file(self.folder(), sidecar), seconds)
    }

    /// Leads a gateway's connections to this sidecar.
    pub(crate) fn lead(&self, gateway: usize, sidecar: usize) {
        let Addresses { internal, http, .. } = self.sidecars[sidecar].addresses();
        let targets =
            [(Wire::GatewaySidecar(gateway), internal), (Wire::GatewayPublic(gateway), http)];
        for (wire, target) in targets {
            if let Some(link) = self.links.get(&wire) {
                link.lead_to(target);
            }
        }
    }

    /// The process of a part.
    pub(crate) fn process(&self, part: Part) -> &farebox_tests::child::Child {
        match part {
            Part::Gateway(number) => self.gateways[number].envoy.process(),
            Part::Sidecar(number) => self.sidecars[number].process(),
            Part::Database => self.database.process(),
            Part::Redis => self.redis.process(),
            Part::Payment => self.payment.process(),
        }
    }

    /// Ends a part: at once, or in order.
    pub(crate) fn end(&self, part: Part, at_once: bool) {
        match (part, at_once) {
            (Part::Gateway(number), true) => self.gateways[number].envoy.kill(),
            (Part::Gateway(number), false) => self.gateways[number].envoy.stop(),
            (Part::Sidecar(number), true) => self.sidecars[number].kill(),
            (Part::Sidecar(number), false) => self.sidecars[number].stop(),
            (Part::Database, true) => self.database.kill(),
            (Part::Database, false) => self.database.stop(),
            (Part::Redis, true) => self.redis.kill(),
            (Part::Redis, false) => self.redis.process().stop(),
            (Part::Payment, true) => self.payment.kill(),
            (Part::Payment, false) => self.payment.stop(),
        }
    }

    /// Starts a part again and waits until it is ready. A sidecar that starts while its database is away ends again.
    pub(crate) async fn start_again(&self, part: Part) -> Result<()> {
        match part {
            Part::Gateway(number) => self.gateways[number].envoy.start_again().await?,
            Part::Sidecar(number) => self.sidecars[number].start_again().await?,
            Part::Database => self.database.start_again().await?,
            Part::Redis => self.redis.start_again().await?,
            Part::Payment => self.payment.start_again().await?,
        }
        Ok(())
    }

    /// Keeps what tells about a breach, before the directory goes away; where.
    pub(crate) fn keep(&self, name: &str) -> Result<PathBuf> {
        let kept = std::env::temp_dir().join(name);
        fs::create_dir_all(&kept)?;
        for entry in fs::read_dir(self.folder())? {
            let path = entry?.path();
            let text = path.extension().is_some_and(|kind| kind == "log" || kind == "yaml");
            if let Some(name) = path.file_name().filter(|_| text) {
                fs::copy(&path, kept.join(name))?;
            }
        }
        for table in self.database.sql(TABLES)?.concat() {
            let head = self.database.sql(&format!(
                "SELECT column_name FROM information_schema.columns
                 WHERE table_schema = DATABASE() AND table_name = '{table}' ORDER BY ordinal_position"
            ))?;
            let rows = self.database.sql(&format!("SELECT * FROM `{table}`"))?;
            let lines = std::iter::once(head.concat()).chain(rows).map(|row| row.join("\t") + "\n");
            fs::write(kept.join(table).with_extension("tsv"), lines.collect::<String>())?;
        }
        Ok(kept)
    }
}

impl Neighbours<'_> {
    fn link(&self, wire: Wire) -> Result<SocketAddr> {
        self.links.get(&wire).map(Link::addr).with_context(|| format!("no proxy for {wire}"))
    }

    fn settings(&self, number: usize, addresses: Addresses, book: usize) -> Result<Settings<'_>> {
        Ok(Settings {
            addresses,
            database: self.database.source_at(self.link(Wire::SidecarDatabase(number))?),
            redis: self.link(Wire::SidecarRedis(number))?,
            prices: &BOOKS[book],
            free_quotas: &FREE_QUOTAS,
            lease_ttl: LEASE_TTL,
            on_lost: self.on_lost.as_str(),
            currency: "CNY",
            payment: Some(Payment {
                grpc: self.link(Wire::SidecarPayment(number))?,
                notify: Some(self.link(Wire::PaymentSidecar(number))?),
                timeout: "1s",
                tls: None,
            }),
            callback_secrets: CALLBACK_SECRET,
            clock: None,
            variables: &[],
        })
    }

    async fn sidecar(&self, number: usize, addresses: Addresses) -> Result<Sidecar> {
        let clock = clock_file(self.folder, number);
        set_clock(&clock, 0)?;
        let variables = self.control.variables();
        let settings = Settings {
            clock: Some(Clock::Follows(&clock)),
            variables: &variables,
            ..self.settings(number, addresses, 0)?
        };
        Ok(Sidecar::start(self.folder, &format!("sidecar-{number}"), &settings).await?)
    }

    /// A configuration for the command line, without a proxy on the way.
    fn observer(&self, addresses: Addresses) -> Result<()> {
        let settings =
            Settings { database: self.database.source(), ..self.settings(0, addresses, 0)? };
        Ok(settings.write(&self.folder.join("observer.yaml"))?)
    }
}

fn addresses() -> Addresses {
    Addresses { http: port::free(), internal: port::free(), admin: port::free() }
}

/// Every wire and where it ends.
fn wires(
    sidecars: &[Addresses],
    database: &Database,
    redis: &Redis,
    payment: &PaymentService,
    upstream: &Upstream,
) -> Vec<(Wire, SocketAddr)> {
    let mut wires = Vec::new();
    for number in 0..GATEWAYS {
        let sidecar = sidecars[sidecar_of(number)];
        wires.push((Wire::GatewaySidecar(number), sidecar.internal));
        wires.push((Wire::GatewayPublic(number), sidecar.http));
        wires.push((Wire::GatewayUpstream(number), upstream.addr()));
    }
    for (number, sidecar) in sidecars.iter().enumerate() {
        wires.push((Wire::SidecarDatabase(number), database.addr()));
        wires.push((Wire::SidecarRedis(number), redis.addr()));
        wires.push((Wire::SidecarPayment(number), payment.grpc_addr()));
        wires.push((Wire::PaymentSidecar(number), sidecar.http));
    }
    wires
}

async fn gateway(folder: &Path, number: usize, links: &BTreeMap<Wire, Link>) -> Result<Gateway> {
    let link = |wire| links.get(&wire).map(Link::addr).with_context(|| format!("no {wire}"));
    let sidecar = link(Wire::GatewaySidecar(number))?;
    let public = link(Wire::GatewayPublic(number))?;
    let upstream = link(Wire::GatewayUpstream(number))?;
    let name = gateway_name(number);
    let log = access_log(&folder.join(format!("{name}.access.log")));
    let template = Template::read("envoy.yaml")?
        .set("node_id", &name)?
        .set("admin_port", 0)?
        .set("listener_address", "127.0.0.1")?
        // The same after a restart: the clients know it.
        .set("listener_port", port::free().port())?
        .set("filter", binaries::filter()?.display())?
        .set("upstream_address", upstream.ip())?
        .set("upstream_port", upstream.port())?
        .set("sidecar_address", sidecar.ip())?
        .set("sidecar_port", sidecar.port())?
        .set("public_address", public.ip())?
        .set("public_port", public.port())?
        .set_plugin(&plugin(number))?
        .put_before("stat_prefix: ingress", &log)?;
    let arguments = ["--disable-hot-restart", "--file-flush-interval-msec", LOG_FLUSH_MS];
    Ok(Gateway::start_with(folder, &name, &template, 2, &arguments).await?)
}

/// How a gateway is called in the books.
pub(crate) fn gateway_name(number: usize) -> String {
    format!("edge-{number}")
}

/// The option of a connection manager that has it write down each call as `passes.rs` reads it.
fn access_log(file: &Path) -> String {
    let kind = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
    let format = json!({ "text_format_source": { "inline_string": passes::FORMAT } });
    let log = json!({ "@type": kind, "path": file, "log_format": format });
    // JSON is YAML too.
    format!("access_log: {}", json!([{ "name": "file", "typed_config": log }]))
}

fn clock_file(folder: &Path, sidecar: usize) -> PathBuf {
    folder.join(format!("sidecar-{sidecar}.clock"))
}

/// Written beside and moved, so that nobody reads half of it.
fn set_clock(file: &Path, seconds: i64) -> Result<()> {
    let new = file.with_extension("clock.new");
    fs::write(&new, format!("{seconds:+}\n"))?;
    Ok(fs::rename(new, file)?)
}

/// A small disk in memory, where this process has mounts of its own: it goes away with the last process that sees it.
fn disk(folder: &Path) -> Option<PathBuf> {
    std::env::var_os(OWN_MOUNTS)?;
    let disk = folder.join("disk");
    fs::create_dir(&disk).ok()?;
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", DISK, "farebox-chaos"]).arg(&disk);
    mount.status().ok()?.success().then_some(disk)
}
