//! The use cases: load, let the core decide, store. No SQL stands here and no HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use farebox_core::call::{CheckReply, CheckRequest};
use farebox_core::id::{AccountId, ServiceName};
use farebox_core::lease::OnLost;
use farebox_core::money::Nanos;
use farebox_core::tariff::Tariff;
use farebox_core::wire::SyncRequest;
use rust_decimal::Decimal;
use tokio::time::Instant;

pub use crate::app::account::{
    AccountStanding, AccountView, Found, FreeQuotaView, MovementView, OwnAccountView, Period,
    RecordFilter, RecordPage, RecordView, ServiceUsageView, StatementView, StatsView, SummaryView,
    UsageView, ViewError,
};
pub use crate::app::accounts::{AccountFilter, AccountLine, AccountPage, AccountsError};
pub use crate::app::audit::{AuditError, AuditFilter, AuditPage, AuditView};
pub use crate::app::charging::{CallError, Outcome, Refusal, Request};
pub use crate::app::credit::{Credit, CreditError, CreditOutcome};
pub use crate::app::credit_limit::{CreditLimit, CreditLimitError, CreditLimitOutcome};
pub use crate::app::explain::{ExplainedPart, Explanation, Row as ExplainedRow};
pub use crate::app::freeze::{FreezeError, FreezeOutcome};
pub use crate::app::gateways::{GatewayFilter, GatewayPage, GatewayView, HoldersError};
pub use crate::app::invariants::{Invariant, InvariantStatus, Touched};
pub use crate::app::leases::{LeaseFilter, LeasePage, LeaseView, RecallError};
pub use crate::app::orders::{
    Action, ActionError, AnomaliesError, AnomalyFilter, AnomalyPage, AnomalyState,
    AnomalyStateError, AnomalyView, Callback, CallbackError, ImportError, ImportReport,
    NewRecharge, NewRefund, Noted, OrderFilter, OrderView, OrderWithRefunds, OrdersError, Page,
    RechargeError, RefundError, RefundView, Resolution, ResolutionView, ResolveError,
};
pub use crate::app::outbox::Deliveries;
pub use crate::app::page::PageError;
pub use crate::app::predecessor::{Note as TakeoverNote, Takeover, TakeoverError, TakeoverStep};
pub use crate::app::prices::PriceView;
pub use crate::app::prices::change::{
    NewPrice, PriceChange, PriceDifference, PricePlan, PricesError,
};
pub use crate::app::prices::repricing::{Repriced, Repricing};
pub use crate::app::quotas::apply::{QuotaChanges, QuotaFilter, QuotasError, ServiceQuotaChanges};
pub use crate::app::sync::SyncError;
pub use crate::app::texts::LengthError;
pub use crate::app::tokens::{
    Caller, MadeToken, NewToken, Role, RoleError, TokenFilter, TokenPage, TokenView, TokensError,
};
pub use crate::app::warm::Warmed;
use crate::cache::Cache;
use crate::events::EventSender;
use crate::metrics::Services;
use crate::payment::PaymentClient;
pub use crate::store::NotReady;
use crate::store::retry::retry;
use crate::store::{self, Store, StoreError, job_lease};

mod account;
mod accounts;
mod audit;
mod books;
mod charging;
mod contention;
mod credit;
mod credit_limit;
mod cursor;
mod explain;
mod freeze;
mod funds;
mod gateways;
mod invariants;
mod leases;
mod orders;
mod outbox;
mod page;
mod predecessor;
mod prices;
mod quotas;
mod reclaim;
mod standing;
mod sync;
mod terms;
mod texts;
mod tokens;
mod warm;

/// What the operator decided, as far as the use cases need it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The currency of new accounts, ISO 4217.
    pub currency: String,
    /// How many decimals that currency has.
    pub currency_decimals: u32,
    /// Where months begin and end.
    pub time_zone: chrono_tz::Tz,
    /// Free units per month, by service.
    pub free_quotas: BTreeMap<ServiceName, u64>,
    /// What the price book begins with, by service.
    pub prices: BTreeMap<ServiceName, Tariff>,
    /// How long a gateway may spend from a lease without hearing from the sidecar.
    pub lease_ttl: Duration,
    /// The most that one recharge order may be for.
    pub recharge_max: Nanos,
    /// How long the leases of a gateway's earlier processes stand after a new process of it appeared.
    pub boot_grace: Duration,
    /// Who bears what a silent gateway had drawn and not reported.
    pub on_lost: OnLost,
    /// Who counts as running low.
    pub low: LowThresholds,
}

/// Below what accounts are counted as running low.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LowThresholds {
    /// A balance, with its credit limit.
    pub balance: Nanos,
    /// What is left of a month's free quota, in per cent of it.
    pub quota_percent: Decimal,
}

impl Default for LowThresholds {
    /// Those of billing-service: 10 and 20 %.
    fn default() -> Self {
        Self { balance: Nanos::new(10_000_000_000), quota_percent: Decimal::from(20) }
    }
}

impl Settings {
    /// Whether the operator priced the service or gave it a free quota. Nothing else is served: nothing is free by mistake.
    fn is_metered(&self, service: &ServiceName) -> bool {
        self.prices.contains_key(service) || self.free_quotas.contains_key(service)
    }
}

/// The use cases on one database.
#[derive(Debug, Clone)]
pub struct App {
    store: Store,
    settings: Arc<Settings>,
    /// Where payments are made; without it, accounts are credited by operators alone.
    payment: Option<PaymentClient>,
    /// Who is told about recharges; without it, events are kept for a while and forgotten.
    events: Option<EventSender>,
    cache: Cache,
    /// Requests that are charged one by one wait here for their turn.
    turns: Arc<charging::Turns>,
    /// How long gateways' messages wait for accounts that others have locked.
    patience: Arc<sync::Patience>,
    /// Operators' tokens, as far as they let somebody in.
    tokens: Arc<tokens::Live>,
    /// The services as labels of metrics.
    services: Services,
    /// This process among those that share the database, for jobs that one of them does.
    owner: Arc<str>,
}

impl App {
    /// The use cases on `store`.
    pub fn new(store: Store, settings: Settings) -> Self {
        let owner = books::new_id().into();
        let (payment, events, cache) = (None, None, Cache::off());
        let turns = Arc::new(charging::Turns::new(store.connections()));
        let (patience, tokens) = (Arc::default(), Arc::default());
        let names: BTreeSet<&ServiceName> =
            settings.prices.keys().chain(settings.free_quotas.keys()).collect();
        let services = Services::register(names);
        let settings = Arc::new(settings);
        Self { store, settings, payment, events, cache, turns, patience, tokens, services, owner }
    }

    /// Adds the payment service.
    #[must_use]
    pub fn with_payment(self, payment: PaymentClient) -> Self {
        Self { payment: Some(payment), ..self }
    }

    /// Adds the receiver of events.
    #[must_use]
    pub fn with_events(self, events: EventSender) -> Self {
        Self { events: Some(events), ..self }
    }

    /// Adds Redis: locks, hints, and what the predecessor kept there.
    #[must_use]
    pub fn with_cache(self, cache: Cache) -> Self {
        Self { cache, ..self }
    }

    /// Brings the price book in line with the settings, but for services whose price an operator set; the number of prices
    /// that changed.
    pub async fn seed_prices(&self) -> Result<usize, StoreError> {
        prices::seed(self).await
    }

    /// Takes a gateway's message in and gives the reply's JSON, byte for byte the same for a repeated message. A message that
    /// only asks is dropped once nobody waits for the answer.
    pub async fn sync(
        &self,
        request: &SyncRequest,
        body: &[u8],
        is_awaited: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<String, SyncError> {
        sync::run(self, request, body, is_awaited).await
    }

    /// Decides requests by the deadline; one answer each, in order. Requests of one account are decided in order of arrival.
    pub async fn call(
        &self,
        requests: Vec<Request>,
        deadline: Instant,
    ) -> Vec<Result<Outcome, CallError>> {
        charging::run(self, requests, deadline).await
    }

    /// What deducts would come to.
    pub async fn check(&self, requests: &[CheckRequest]) -> Vec<Result<CheckReply, CallError>> {
        charging::check::run(self, requests).await
    }

    /// What an account has; `None` when there is no such account.
    pub async fn account(&self, account: &AccountId) -> Result<Option<AccountView>, StoreError> {
        account::view(self, account).await
    }

    /// What accounts have, in order of the names; with a few statements in all.
    pub async fn find_accounts(&self, accounts: &[AccountId]) -> Result<Vec<Found>, StoreError> {
        account::many::find(self, accounts).await
    }

    /// What a user has; an account that does not exist yet has nothing. Never writes.
    pub async fn own_account(&self, account: &AccountId) -> Result<OwnAccountView, ViewError> {
        account::own(self, account).await
    }

    /// Sums up what was charged before there were statistics, since the month before this one; how many sums were made. Does
    /// nothing once there are any.
    pub async fn begin_statistics(&self) -> Result<u64, StoreError> {
        account::stats::begin(self).await
    }

    /// What taking over billing-service's tables would do, or what it did. Writes nothing.
    pub async fn plan_takeover(&self) -> Result<Takeover, TakeoverError> {
        predecessor::plan(self).await
    }

    /// Takes over billing-service's tables as this plan says, or goes on where that broke off.
    pub async fn take_over(&self, plan: &str, actor: &str) -> Result<Takeover, TakeoverError> {
        predecessor::carry::run(self, plan, actor).await
    }

    /// A page of a user's billing records, newest first.
    pub async fn records(
        &self,
        account: &AccountId,
        filter: &RecordFilter,
    ) -> Result<RecordPage, ViewError> {
        account::records::page(self, account, filter).await
    }

    /// What a user used today or this month, of one service or of all.
    pub async fn stats(
        &self,
        account: &AccountId,
        period: Period,
        service: Option<&ServiceName>,
    ) -> Result<StatsView, ViewError> {
        account::stats::stats(self, account, period, service).await
    }

    /// What a user used this month, by service.
    pub async fn stats_summary(&self, account: &AccountId) -> Result<SummaryView, ViewError> {
        account::stats::summary(self, account).await
    }

    /// A user's statement of a month, `YYYY-MM`.
    pub async fn statement(
        &self,
        account: &AccountId,
        month: &str,
    ) -> Result<StatementView, ViewError> {
        account::statement::of_month(self, account, month).await
    }

    /// What a call would cost at this moment. Never writes.
    pub async fn quote(&self, request: &CheckRequest) -> Result<CheckReply, CallError> {
        charging::check::quote(self, request).await
    }

    /// The moment that a text names: RFC 3339, or a day of the billing time zone, for when it begins.
    pub fn moment(&self, text: &str) -> Option<DateTime<Utc>> {
        let day =
            || text.parse().ok().map(|day| crate::calendar::start_of(day, self.settings.time_zone));
        DateTime::parse_from_rfc3339(text).ok().map(|moment| moment.to_utc()).or_else(day)
    }

    /// A page of accounts, in the order of their names.
    pub async fn accounts(&self, filter: &AccountFilter) -> Result<AccountPage, AccountsError> {
        accounts::page(self, filter).await
    }

    /// Adds money to an account, or takes some that is free; once per key.
    pub async fn credit(&self, credit: &Credit) -> Result<CreditOutcome, CreditError> {
        credit::run(self, credit).await
    }

    /// Freezes an account: nothing of it can be used from the answer on, and gateways are asked for what they hold of it.
    /// Freezing it again changes nothing.
    pub async fn freeze(
        &self,
        account: &AccountId,
        reason: &str,
        actor: &str,
    ) -> Result<FreezeOutcome, FreezeError> {
        freeze::freeze(self, account, reason, actor).await
    }

    /// Lets an account be used again.
    pub async fn thaw(
        &self,
        account: &AccountId,
        reason: &str,
        actor: &str,
    ) -> Result<FreezeOutcome, FreezeError> {
        freeze::thaw(self, account, reason, actor).await
    }

    /// Sets how far below zero an account's balance may go.
    pub async fn set_credit_limit(
        &self,
        new: &CreditLimit,
    ) -> Result<CreditLimitOutcome, CreditLimitError> {
        credit_limit::run(self, new).await
    }

    /// A page of what operators did, newest first.
    pub async fn audit(&self, filter: &AuditFilter) -> Result<AuditPage, AuditError> {
        audit::page(self, filter).await
    }

    /// Makes a token for an operator.
    pub async fn create_token(&self, new: &NewToken) -> Result<MadeToken, TokensError> {
        tokens::create(self, new).await
    }

    /// Ends a token, which its name or its id names, at every sidecar within a second; once.
    pub async fn revoke_token(
        &self,
        name_or_id: &str,
        reason: &str,
        actor: &str,
    ) -> Result<TokenView, TokensError> {
        tokens::revoke(self, name_or_id, reason, actor).await
    }

    /// A page of tokens, the newest first.
    pub async fn tokens(&self, filter: &TokenFilter) -> Result<TokenPage, TokensError> {
        tokens::page(self, filter).await
    }

    /// Who shows this token; `None` for one that lets nobody in.
    pub async fn caller(&self, token: &str) -> Result<Option<Caller>, StoreError> {
        tokens::caller(self, token).await
    }

    /// Whether a token let somebody in when the database was last asked. Asks nobody.
    pub fn knew_token(&self, token: &str) -> bool {
        self.tokens.knew(token)
    }

    /// Makes an order to add money and begins its payment; once per user and key.
    pub async fn recharge(&self, new: &NewRecharge) -> Result<OrderView, RechargeError> {
        orders::create::run(self, new).await
    }

    /// How long [`Self::recharge`] may wait for the payment service.
    pub fn payment_timeout(&self) -> Duration {
        self.payment.as_ref().map_or(Duration::ZERO, PaymentClient::timeout)
    }

    /// Takes the payment service's news of a payment in. Its signature has been verified.
    pub async fn callback(&self, callback: &Callback) -> Result<Noted, CallbackError> {
        orders::callback::run(self, callback).await
    }

    /// One order; of `account` only, when that is given.
    pub async fn order(
        &self,
        order_id: &str,
        account: Option<&AccountId>,
    ) -> Result<OrderView, OrdersError> {
        orders::view::one(self, order_id, account).await
    }

    /// One order with its refunds, for operators.
    pub async fn order_with_refunds(
        &self,
        order_id: &str,
    ) -> Result<OrderWithRefunds, OrdersError> {
        orders::view::with_refunds(self, order_id).await
    }

    /// A page of orders, newest first.
    pub async fn orders(&self, filter: &OrderFilter) -> Result<Page, OrdersError> {
        orders::view::page(self, filter).await
    }

    /// Gives money of a paid order back; once per order and key.
    pub async fn refund(&self, new: &NewRefund) -> Result<RefundView, RefundError> {
        orders::refund::run(self, new).await
    }

    /// Asks the payment service about orders that are pending for long; how many of them ended. Does nothing while another
    /// sidecar does it.
    pub async fn ask_for_payments(&self) -> Result<u64, StoreError> {
        orders::ask::run(self).await
    }

    /// Asks for the end of refunds that have none; how many ended. Does nothing while another sidecar does it.
    pub async fn continue_refunds(&self) -> Result<u64, StoreError> {
        orders::refund::continue_all(self).await
    }

    /// Moves every order that the predecessor left in Redis into the database.
    pub async fn import_legacy_orders(&self) -> Result<ImportReport, ImportError> {
        orders::legacy::import_all(self).await
    }

    /// A page of payments that did not fit their orders, the newest first.
    pub async fn anomalies(&self, filter: &AnomalyFilter) -> Result<AnomalyPage, AnomaliesError> {
        orders::anomaly::view::page(self, filter).await
    }

    /// One payment that did not fit its order.
    pub async fn anomaly(&self, id: i64) -> Result<AnomalyView, AnomaliesError> {
        orders::anomaly::view::one(self, id).await
    }

    /// Decides about a payment that did not fit its order; once.
    pub async fn resolve(&self, resolution: &Resolution) -> Result<AnomalyView, ResolveError> {
        orders::anomaly::resolve::run(self, resolution).await
    }

    /// A page of gateways, in the order of their names.
    pub async fn gateways(&self, filter: &GatewayFilter) -> Result<GatewayPage, HoldersError> {
        gateways::page(self, filter).await
    }

    /// A page of open leases, the newest first.
    pub async fn leases(&self, filter: &LeaseFilter) -> Result<LeasePage, HoldersError> {
        leases::page(self, filter).await
    }

    /// Asks the gateway of a lease to give back what it does not use.
    pub async fn recall(
        &self,
        lease: u64,
        reason: &str,
        actor: &str,
    ) -> Result<LeaseView, RecallError> {
        leases::recall(self, lease, reason, actor).await
    }

    /// The price versions, the current ones first.
    pub async fn prices(&self) -> Result<Vec<PriceView>, StoreError> {
        prices::view(self, None).await
    }

    /// The price versions, those that hold at a moment first.
    pub async fn prices_at(&self, at: DateTime<Utc>) -> Result<Vec<PriceView>, StoreError> {
        prices::view(self, Some(at)).await
    }

    /// What a change of prices would do, and what last month's usage would have come to.
    pub async fn plan_prices(
        &self,
        change: &PriceChange,
    ) -> Result<(PricePlan, Repricing), PricesError> {
        prices::repricing::plan(self, change).await
    }

    /// Changes prices; what changed.
    pub async fn apply_prices(
        &self,
        change: &PriceChange,
        reason: &str,
        actor: &str,
    ) -> Result<PricePlan, PricesError> {
        prices::change::apply(self, change, reason, actor).await
    }

    /// What it would change to have this month's free quotas follow the settings.
    pub async fn plan_quotas(&self, filter: &QuotaFilter) -> Result<QuotaChanges, QuotasError> {
        quotas::apply::plan(self, filter).await
    }

    /// Has this month's free quotas follow the settings, none below what is used and held; what changed.
    pub async fn apply_quotas(
        &self,
        filter: &QuotaFilter,
        reason: &str,
        actor: &str,
    ) -> Result<QuotaChanges, QuotasError> {
        quotas::apply::apply(self, filter, reason, actor).await
    }

    /// Makes free quotas of the month to come ahead of it; how many. Ends early once `go_on` says no. Does nothing while there
    /// is time, or while another sidecar does it.
    pub async fn prepare_quotas(&self, go_on: impl Fn() -> bool) -> Result<u64, StoreError> {
        quotas::prepare::run(self, go_on).await
    }

    /// Has the database read the rows of the accounts that changed most recently, so many at most. Writes nothing.
    pub async fn warm(&self, accounts: u32) -> Result<Warmed, StoreError> {
        warm::run(self, accounts).await
    }

    /// The whole chain of what this id names: a billing record, a lease, a reservation, an order; empty when there is none.
    pub async fn explain(&self, id: &str) -> Result<Vec<Explanation>, StoreError> {
        explain::run(self, id).await
    }

    /// Checks all of the books at one moment, also while they are written.
    pub async fn invariants(&self) -> Result<Vec<Invariant>, StoreError> {
        invariants::everything::check(self).await
    }

    /// Checks the accounts that changed since they were last checked; `None` while another sidecar does it.
    pub async fn check_touched(&self) -> Result<Option<Touched>, StoreError> {
        invariants::touched::check(self).await
    }

    /// What the last checks found, whoever made them.
    pub async fn invariant_status(&self) -> Result<Vec<InvariantStatus>, StoreError> {
        invariants::status::all(self).await
    }

    /// Shows what the last checks found in the metrics of this process.
    pub async fn show_invariants(&self) -> Result<(), StoreError> {
        invariants::status::show(self).await
    }

    /// Shows what stands in the database in the metrics of this process.
    pub async fn show_standing(&self) -> Result<(), StoreError> {
        standing::show(self).await
    }

    /// Whether requests can be answered: the database is reachable and has every migration.
    pub async fn ready(&self) -> Result<(), NotReady> {
        self.store.ready().await
    }

    /// Takes back the leases of gateways that fell silent, and reservations whose time is over; how many. Does nothing while another sidecar does it.
    pub async fn reclaim(&self) -> Result<u64, StoreError> {
        reclaim::claims(self).await
    }

    /// Leaves this sidecar's jobs to the others, once it does none of them any more. Else nobody did them for as long as it
    /// has them: a minute and more.
    pub async fn release_jobs(&self) -> Result<(), StoreError> {
        retry("release jobs", || async {
            let mut tx = self.store.begin().await?;
            let outcome = job_lease::release_all(&mut tx, &self.owner).await;
            store::finish(tx, outcome).await
        })
        .await
    }

    /// The token of a job that this sidecar has for `ttl`; `None` while another one has it.
    async fn acquire_job(
        &self,
        job: &'static str,
        ttl: Duration,
    ) -> Result<Option<i64>, StoreError> {
        retry(job, || async {
            let mut tx = self.store.begin().await?;
            let outcome = job_lease::acquire(&mut tx, job, &self.owner, ttl).await;
            store::finish(tx, outcome).await
        })
        .await
    }

    /// Delivers a round of events that are due; no delivery begins once `go_on` says no. Does nothing while another sidecar
    /// does it, or without a receiver.
    pub async fn deliver_events(&self, go_on: impl Fn() -> bool) -> Result<Deliveries, StoreError> {
        outbox::deliver(self, go_on).await
    }

    /// Deletes stored replies and answers that nobody asks for any more, and old events; how many. Does nothing while another
    /// sidecar does it.
    pub async fn purge(&self) -> Result<u64, StoreError> {
        reclaim::purge(self).await
    }
}

/// A moment as views show it.
fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
