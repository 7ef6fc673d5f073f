//! The whole stack: database, Redis, payment service, one or more sidecars, upstream and one or more gateways.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use crate::client::Client;
use crate::cut::Cut;
use crate::database::Database;
use crate::envoy::{Envoy, Template, shows_its_span};
use crate::part::Part;
use crate::payment::{CALLBACK_SECRET, PaymentService};
use crate::redis::Redis;
use crate::scratch::Scratch;
use crate::sidecar::{Addresses, Clock, Payment, Settings, Sidecar};
use crate::tls::{Tls, TlsFiles};
use crate::upstream::Upstream;
use crate::{StackError, binaries, port};

/// The listener of the reference configuration.
const LISTENER: &str = "ingress";

/// How often a statement of a test may give way to the parts.
const GAVE_WAY_MAX: usize = 10;

/// What to start.
#[derive(Debug, Clone)]
pub struct Plan {
    template: &'static str,
    marks: BTreeMap<&'static str, String>,
    plugin: Option<Value>,
    workers: u32,
    prices: Vec<(&'static str, &'static str)>,
    free_quotas: Vec<(&'static str, u64)>,
    lease_ttl: &'static str,
    currency: &'static str,
    payment_timeout: &'static str,
    payment_tls: Option<Tls>,
    callback_secrets: &'static str,
    gateway: bool,
    cut: bool,
    traces: Option<Traces>,
    ports: Ports,
}

/// Where spans go, and how many.
#[derive(Debug, Clone)]
struct Traces {
    receiver: SocketAddr,
    variables: [(&'static str, String); 2],
}

/// Where the parts listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ports {
    /// Wherever there is room: stacks may run side by side.
    Free,
    /// Where the documentation says, as far as those ports are free.
    Documented,
}

/// Everything that a metered call passes, as processes of this one.
///
/// Fields are dropped from top to bottom: gateways before what they call, the directory last.
#[derive(Debug)]
pub struct Stack {
    /// The gateway.
    pub envoy: Part<Envoy>,
    /// The sidecar.
    pub sidecar: Sidecar,
    /// The payment service.
    pub payment: PaymentService,
    /// The proxy between the sidecar and the database.
    pub cut: Part<Cut>,
    /// The service behind the gateway.
    pub upstream: Upstream,
    /// Redis.
    pub redis: Redis,
    /// MariaDB.
    pub database: Database,
    /// How the gateway was configured; another one may be made from it.
    pub template: Part<Template>,
    gateway: Part<SocketAddr>,
    plan: Plan,
    scratch: Scratch,
}

/// A further gateway of a stack.
#[derive(Debug)]
pub struct Gateway {
    /// The process.
    pub envoy: Envoy,
    addr: SocketAddr,
}

/// One account as the books have it; amounts are decimals without trailing zeros.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// All money.
    pub balance: String,
    /// The part that leases hold.
    pub held: String,
    /// What is owed.
    pub receivable: String,
    /// Free units used in all services and months.
    pub free_used: u64,
    /// Free units that leases hold.
    pub free_held: u64,
    /// Units on billing records.
    pub recorded_units: u64,
    /// Paid units on billing records.
    pub recorded_paid_units: u64,
    /// Money on billing records.
    pub recorded_amount: String,
    /// The sum of charges in the ledger, as a positive amount.
    pub ledger_charges: String,
}

// === impl Plan ===

impl Plan {
    /// The reference configuration with the predecessor's prices and free quotas.
    pub fn reference() -> Self {
        Self {
            template: "envoy.yaml",
            marks: BTreeMap::new(),
            plugin: None,
            workers: 2,
            prices: vec![("passport", "0.001"), ("payment", "0.002"), ("asset", "0.001")],
            free_quotas: vec![("passport", 10_000), ("payment", 1_000), ("asset", 1_000)],
            lease_ttl: "10s",
            currency: "CNY",
            payment_timeout: "5s",
            payment_tls: None,
            callback_secrets: CALLBACK_SECRET,
            gateway: true,
            cut: false,
            traces: None,
            ports: Ports::Free,
        }
    }

    /// Starts from another file of the folder `envoy/`.
    #[must_use]
    pub fn template(self, template: &'static str) -> Self {
        Self { template, ..self }
    }

    /// Fills a mark of the template that the stack does not fill itself.
    #[must_use]
    pub fn mark(mut self, mark: &'static str, value: impl ToString) -> Self {
        self.marks.insert(mark, value.to_string());
        self
    }

    /// Replaces the filter's configuration.
    #[must_use]
    pub fn plugin(self, configuration: Value) -> Self {
        Self { plugin: Some(configuration), ..self }
    }

    /// Sets the number of Envoy's worker threads.
    #[must_use]
    pub fn workers(self, workers: u32) -> Self {
        Self { workers, ..self }
    }

    /// Replaces the price book.
    #[must_use]
    pub fn prices(self, prices: &[(&'static str, &'static str)]) -> Self {
        Self { prices: prices.to_vec(), ..self }
    }

    /// Replaces the free quotas.
    #[must_use]
    pub fn free_quotas(self, free_quotas: &[(&'static str, u64)]) -> Self {
        Self { free_quotas: free_quotas.to_vec(), ..self }
    }

    /// Sets how long a lease stands without a renewal.
    #[must_use]
    pub fn lease_ttl(self, lease_ttl: &'static str) -> Self {
        Self { lease_ttl, ..self }
    }

    /// Sets the currency of all accounts.
    #[must_use]
    pub fn currency(self, currency: &'static str) -> Self {
        Self { currency, ..self }
    }

    /// Sets how long the sidecar waits for the payment service.
    #[must_use]
    pub fn payment_timeout(self, payment_timeout: &'static str) -> Self {
        Self { payment_timeout, ..self }
    }

    /// Protects the connection to the payment service.
    #[must_use]
    pub fn payment_tls(self, tls: Tls) -> Self {
        Self { payment_tls: Some(tls), ..self }
    }

    /// Sets the secrets of which the sidecar accepts callbacks; several separated by commas.
    #[must_use]
    pub fn callback_secrets(self, callback_secrets: &'static str) -> Self {
        Self { callback_secrets, ..self }
    }

    /// Starts no Envoy: everything is asked of the sidecar itself.
    #[must_use]
    pub fn without_gateway(self) -> Self {
        Self { gateway: false, ..self }
    }

    /// Puts [`Stack::cut`] between the sidecar and the database. Further sidecars reach the database without it.
    #[must_use]
    pub fn with_cut(self) -> Self {
        Self { cut: true, ..self }
    }

    /// Sends spans to this receiver: all of the gateway's, and this part of those that begin in the sidecar.
    #[must_use]
    pub fn traces(self, receiver: SocketAddr, sample_ratio: &str) -> Self {
        let variables = [
            ("FAREBOX_TRACING__OTLP_ENDPOINT", format!("http://{receiver}")),
            ("FAREBOX_TRACING__SAMPLE_RATIO", sample_ratio.to_owned()),
        ];
        Self { traces: Some(Traces { receiver, variables }), ..self }
    }

    /// Listens at 10000, 8107, 8108, 8109, 9101 and 9180 as far as those ports are free.
    #[must_use]
    pub fn documented_ports(self) -> Self {
        Self { ports: Ports::Documented, ..self }
    }

    fn addr(&self, documented: u16) -> SocketAddr {
        match self.ports {
            Ports::Free => port::free(),
            Ports::Documented => port::preferred(documented),
        }
    }

    fn addresses(&self) -> Addresses {
        Addresses { http: self.addr(8107), internal: self.addr(8108), admin: self.addr(8109) }
    }

    fn settings<'p>(
        &'p self,
        addresses: Addresses,
        database: String,
        redis: &Redis,
        payment: &'p PaymentService,
    ) -> Settings<'p> {
        let payment = Payment {
            grpc: payment.grpc_addr(),
            notify: None,
            timeout: self.payment_timeout,
            tls: payment.tls(),
        };
        Settings {
            addresses,
            database,
            redis: redis.addr(),
            prices: &self.prices,
            free_quotas: &self.free_quotas,
            lease_ttl: self.lease_ttl,
            on_lost: "reported",
            currency: self.currency,
            payment: Some(payment),
            callback_secrets: self.callback_secrets,
            clock: None,
            variables: &[],
        }
    }

    fn fill(&self, sidecar: &Addresses, upstream: SocketAddr) -> Result<Template, StackError> {
        let listener_port = match self.ports {
            Ports::Free => 0,
            Ports::Documented => port::preferred(10_000).port(),
        };
        let mut template = Template::read(self.template)?
            .set("admin_port", 0)?
            .set("listener_address", "127.0.0.1")?
            .set("listener_port", listener_port)?
            .set("filter", binaries::filter()?.display())?
            .set("upstream_address", upstream.ip())?
            .set("upstream_port", upstream.port())?
            .set("sidecar_address", sidecar.internal.ip())?
            .set("sidecar_port", sidecar.internal.port())?
            .set("public_address", sidecar.http.ip())?
            .set("public_port", sidecar.http.port())?;
        for (mark, value) in &self.marks {
            template = template.set(mark, value)?;
        }
        if let Some(Traces { receiver, .. }) = &self.traces {
            template = template.uncomment("tracing")?.uncomment("tracing_cluster")?;
            if shows_its_span()? {
                template = template.uncomment("tracing_context")?;
            }
            template = template
                .set("tracing_percent", "{ value: 100 }")?
                .set("collector_address", receiver.ip())?
                .set("collector_port", receiver.port())?
                .append("layered_runtime: { layers: [{ name: tests, static_layer: { tracing.opentelemetry.flush_interval_ms: 100 } }] }\n");
        }
        match &self.plugin {
            Some(configuration) => template.set_plugin(configuration),
            None => Ok(template),
        }
    }
}

// === impl Stack ===

impl Stack {
    /// Starts everything and waits until it is ready.
    pub async fn start(plan: Plan) -> Result<Self, StackError> {
        Self::start_telling(plan, |_| {}).await
    }

    /// Like [`Self::start`]; `tell` hears the name of each part that is about to start.
    pub async fn start_telling(plan: Plan, tell: impl Fn(&str)) -> Result<Self, StackError> {
        let scratch = Scratch::new()?;
        tell("MariaDB");
        let database = Database::start(scratch.path()).await?;
        Self::start_in(scratch, plan, database, tell).await
    }

    /// Starts everything else on a database that is there.
    pub async fn start_on(plan: Plan, database: Database) -> Result<Self, StackError> {
        Self::start_in(Scratch::new()?, plan, database, |_| {}).await
    }

    async fn start_in(
        scratch: Scratch,
        plan: Plan,
        database: Database,
        tell: impl Fn(&str),
    ) -> Result<Self, StackError> {
        let folder = scratch.path();
        tell("Redis");
        let redis = Redis::start(folder).await?;
        tell("upstream");
        let upstream = Upstream::start().await?;
        tell("payment service");
        let tls = plan.payment_tls.map(|tls| TlsFiles::make(folder, tls)).transpose()?;
        let (grpc, http) = (plan.addr(9101), plan.addr(9180));
        let payment = PaymentService::start_at(folder, grpc, http, tls).await?;
        tell("sidecar");
        let cut = if plan.cut { Some(Cut::start(database.addr()).await?) } else { None };
        let source = cut.as_ref().map(|cut| database.source_at(cut.addr()));
        let source = source.unwrap_or_else(|| database.source());
        let variables = plan.traces.iter().flat_map(|traces| &traces.variables);
        let variables: Vec<(&str, &str)> =
            variables.map(|(name, value)| (*name, value.as_str())).collect();
        let settings = plan.settings(plan.addresses(), source, &redis, &payment);
        let settings = Settings { variables: &variables, ..settings };
        let sidecar = Sidecar::start(folder, "sidecar", &settings).await?;
        let (mut template, mut gateway) = (None, None);
        if plan.gateway {
            tell("Envoy");
            let filled = plan.fill(&sidecar.addresses(), upstream.addr())?;
            gateway = Some(Gateway::start(folder, "envoy", &filled, plan.workers).await?);
            template = Some(filled);
        }
        let (envoy, addr) = gateway.map(|Gateway { envoy, addr }| (envoy, addr)).unzip();
        Ok(Self {
            envoy: Part::new("the gateway", envoy),
            sidecar,
            payment,
            cut: Part::new("the proxy of the database: add `with_cut()`", cut),
            upstream,
            redis,
            database,
            template: Part::new("the gateway", template),
            gateway: Part::new("the gateway", addr),
            plan,
            scratch,
        })
    }

    /// Starts a further sidecar of this name on the same database, with addresses of its own.
    pub async fn another_sidecar(&self, name: &str) -> Result<Sidecar, StackError> {
        self.further_sidecar(name, None, &self.database).await
    }

    /// The same on another node of the database.
    pub async fn another_sidecar_on(
        &self,
        name: &str,
        database: &Database,
    ) -> Result<Sidecar, StackError> {
        self.further_sidecar(name, None, database).await
    }

    /// The same, of which each run begins at this time by its own clock: `@2037-05-31 15:59:29`, in UTC.
    pub async fn another_sidecar_at(&self, name: &str, clock: &str) -> Result<Sidecar, StackError> {
        self.further_sidecar(name, Some(clock), &self.database).await
    }

    async fn further_sidecar(
        &self,
        name: &str,
        clock: Option<&str>,
        database: &Database,
    ) -> Result<Sidecar, StackError> {
        let addresses =
            Addresses { http: port::free(), internal: port::free(), admin: port::free() };
        let source = database.source();
        let settings = self.plan.settings(addresses, source, &self.redis, &self.payment);
        let settings = Settings { clock: clock.map(Clock::Starts), ..settings };
        Sidecar::start(self.scratch.path(), name, &settings).await
    }

    /// Starts a further gateway of this name on the same sidecar.
    pub async fn another_gateway(&self, name: &str, workers: u32) -> Result<Gateway, StackError> {
        let template = self.template.clone().set("node_id", name)?;
        Gateway::start(self.scratch.path(), name, &template, workers).await
    }

    /// Where the gateway listens.
    pub fn gateway(&self) -> SocketAddr {
        *self.gateway
    }

    /// The directory with everybody's logs and data.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// A caller of the gateway that speaks HTTP/1.1.
    pub fn client(&self) -> Client {
        Client::http1(self.gateway())
    }

    /// A caller of the gateway that speaks HTTP/2.
    pub fn client_http2(&self) -> Client {
        Client::http2(self.gateway())
    }

    /// Adds money to an account by the operator's command line; creates the account.
    pub fn credit(&self, user: &str, amount: &str) {
        let arguments = ["account", "credit", user, amount, "--reason", "harness"];
        self.sidecar.cli(&arguments).unwrap_or_else(|err| panic!("{err}"));
    }

    /// Runs a statement on the database and gives its rows.
    pub fn sql(&self, statement: &str) -> Vec<Vec<String>> {
        let mut outcome = self.database.sql(statement);
        for _ in 0..GAVE_WAY_MAX {
            // The parts work on the same rows; a statement that gave way to them is undone whole.
            match &outcome {
                Err(err) if err.to_string().contains("ERROR 1213") => {}
                _ => break,
            }
            outcome = self.database.sql(statement);
        }
        outcome.unwrap_or_else(|err| panic!("{err}"))
    }

    /// The only field of the only row; empty when there is none.
    pub fn sql_one(&self, statement: &str) -> String {
        self.sql(statement).into_iter().flatten().next().unwrap_or_default()
    }

    /// What the books say about an account, read in one statement; empty when there is no such account.
    pub fn account(&self, user: &str) -> Account {
        let user = user.replace('\'', "''");
        let rows = self.sql(&format!(
            "SELECT balance, held, receivable,
                (SELECT COALESCE(SUM(used_quota), 0) FROM free_quota q WHERE q.user_id = b.user_id),
                (SELECT COALESCE(SUM(held_quota), 0) FROM free_quota q WHERE q.user_id = b.user_id),
                (SELECT COALESCE(SUM(free_units + paid_units), 0) FROM billing_record r
                    WHERE r.user_id = b.user_id AND r.source <> 'package'),
                (SELECT COALESCE(SUM(paid_units), 0) FROM billing_record r
                    WHERE r.user_id = b.user_id AND r.source <> 'package'),
                (SELECT COALESCE(SUM(amount), 0) FROM billing_record r WHERE r.user_id = b.user_id),
                (SELECT COALESCE(-SUM(amount), 0) FROM ledger_entry e
                    WHERE e.user_id = b.user_id AND e.kind = 'charge' AND e.user_seq IS NOT NULL)
            FROM user_balance b WHERE user_id = '{user}'"
        ));
        let mut fields = rows.into_iter().flatten();
        let mut next = || fields.next().unwrap_or_default();
        let (balance, held, receivable) = (decimal(next()), decimal(next()), decimal(next()));
        let mut count = || next().parse().unwrap_or(0);
        let (free_used, free_held) = (count(), count());
        let (recorded_units, recorded_paid_units) = (count(), count());
        let (recorded_amount, ledger_charges) = (decimal(next()), decimal(next()));
        Account {
            balance,
            held,
            receivable,
            free_used,
            free_held,
            recorded_units,
            recorded_paid_units,
            recorded_amount,
            ledger_charges,
        }
    }

    /// Has the sidecar check every invariant on the tables; a violation fails the test.
    pub fn invariants(&self) -> String {
        self.sidecar.cli(&["invariants"]).unwrap_or_else(|err| panic!("{err}"))
    }
}

/// A decimal without trailing zeros, as `Nanos` prints it.
fn decimal(text: String) -> String {
    match text.parse::<farebox_core::money::Nanos>() {
        Ok(amount) => amount.to_string(),
        Err(_) => text,
    }
}

// === impl Gateway ===

impl Gateway {
    /// Starts a gateway and finds out where it listens.
    pub async fn start(
        folder: &Path,
        name: &str,
        template: &Template,
        workers: u32,
    ) -> Result<Self, StackError> {
        Self::find(Envoy::start(folder, name, template, workers).await?, name).await
    }

    /// The same with arguments for Envoy of one's own, such as those of a hot restart.
    pub async fn start_with(
        folder: &Path,
        name: &str,
        template: &Template,
        workers: u32,
        arguments: &[&str],
    ) -> Result<Self, StackError> {
        Self::find(Envoy::start_with(folder, name, template, workers, arguments).await?, name).await
    }

    async fn find(envoy: Envoy, name: &str) -> Result<Self, StackError> {
        let addr = envoy.listener(LISTENER).await.ok_or_else(|| StackError::NotReady {
            name: name.to_owned(),
            problem: format!("has no listener `{LISTENER}`"),
            log: envoy.log(),
        })?;
        Ok(Self { envoy, addr })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A caller of this gateway that speaks HTTP/1.1.
    pub fn client(&self) -> Client {
        Client::http1(self.addr)
    }
}
