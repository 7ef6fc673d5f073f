//! Databases as each generation of billing-service left them, with rows from a seed and all the odd ones.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::database::Database;

/// Which version's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// Before A: types are numbers, balances have a version, orders another name for their id.
    First,
    A,
    B,
    EarlyC,
    C,
}

pub(crate) const VERSIONS: [Version; 5] =
    [Version::First, Version::A, Version::B, Version::EarlyC, Version::C];

impl Version {
    pub(crate) fn user(self) -> &'static str {
        if self == Self::B { "uid" } else { "user_id" }
    }

    pub(crate) fn payment(self) -> &'static str {
        if matches!(self, Self::First | Self::A) { "payment_order_id" } else { "payment_id" }
    }

    pub(crate) fn order(self) -> &'static str {
        if self == Self::First { "recharge_order_id" } else { "order_id" }
    }

    pub(crate) fn has_apps(self) -> bool {
        self == Self::C
    }

    /// How the program calls it.
    pub(crate) fn generation(self) -> &'static str {
        match self {
            Self::First | Self::A => "A",
            Self::B => "B",
            Self::EarlyC => "C without apps",
            Self::C => "C",
        }
    }

    fn tables(self) -> [String; 4] {
        let (user, payment, order) = (self.user(), self.payment(), self.order());
        let app = if self.has_apps() { "app_id VARCHAR(36) NOT NULL DEFAULT ''," } else { "" };
        let apps = if self.has_apps() { "app_id, " } else { "" };
        let version = if self == Self::First { "version INT DEFAULT 0," } else { "" };
        let kind = if self == Self::First { "TINYINT" } else { "ENUM('free','balance')" };
        let times = "created_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP,
            updated_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP";
        let end = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci";
        [
            format!("CREATE TABLE user_balance (user_balance_id VARCHAR(36) NOT NULL, {user} VARCHAR(36) NOT NULL,
                balance DECIMAL(10,2) DEFAULT 0.00, {version} {times},
                PRIMARY KEY (user_balance_id), UNIQUE KEY uk_user_id ({user})) {end}"),
            format!("CREATE TABLE free_quota (free_quota_id VARCHAR(36) NOT NULL, {user} VARCHAR(36) NOT NULL, {app}
                service_name VARCHAR(32) NOT NULL, total_quota INT DEFAULT 0, used_quota INT DEFAULT 0,
                reset_month VARCHAR(7) NOT NULL, {times}, PRIMARY KEY (free_quota_id),
                UNIQUE KEY uk_user_service_month ({user}, {apps}service_name, reset_month)) {end}"),
            format!("CREATE TABLE billing_record (billing_record_id VARCHAR(36) NOT NULL, {user} VARCHAR(36) NOT NULL, {app}
                service_name VARCHAR(32) NOT NULL, type {kind} NOT NULL, amount DECIMAL(10,4) DEFAULT 0, count INT DEFAULT 1,
                created_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (billing_record_id),
                KEY idx_user_date ({user}, created_at)) {end}"),
            format!("CREATE TABLE recharge_order ({order} VARCHAR(64) NOT NULL, {user} VARCHAR(36) NOT NULL,
                amount DECIMAL(10,2) NOT NULL, {payment} VARCHAR(64) DEFAULT NULL,
                status ENUM('pending','success','failed') DEFAULT 'pending', {times},
                PRIMARY KEY ({order}), UNIQUE KEY uk_payment ({payment}), KEY idx_user_id ({user})) {end}"),
        ]
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Balance {
    pub(crate) user: String,
    /// In hundredths.
    pub(crate) balance: Option<i64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Quota {
    pub(crate) user: String,
    pub(crate) app: String,
    pub(crate) service: String,
    pub(crate) month: String,
    pub(crate) total: Option<i64>,
    pub(crate) used: Option<i64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) user: String,
    pub(crate) app: String,
    pub(crate) service: String,
    pub(crate) is_free: bool,
    /// In ten thousandths.
    pub(crate) amount: Option<i64>,
    pub(crate) count: Option<i64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) user: String,
    /// In hundredths.
    pub(crate) amount: i64,
    pub(crate) payment: Option<String>,
    pub(crate) status: Option<&'static str>,
}

/// The rows of a database.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    pub(crate) balances: Vec<Balance>,
    pub(crate) quotas: Vec<Quota>,
    pub(crate) records: Vec<Record>,
    pub(crate) orders: Vec<Order>,
}

/// What a quota of a free app has in all.
pub(crate) const UNLIMITED: i64 = 2_147_483_647;

const SERVICES: [&str; 3] = ["passport", "payment", "asset-service"];

impl Rows {
    /// Rows of a version, by a seed.
    pub(crate) fn random(version: Version, seed: u64, users: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut rows = Self::default();
        for number in 0..users {
            rows.add_user(&format!("user_{number:03}"), version, &mut random);
        }
        rows.add_odd_ones(version);
        rows
    }

    fn add_user(&mut self, user: &str, version: Version, random: &mut StdRng) {
        if random.random_range(0..8) != 0 {
            let balance = match random.random_range(0..8) {
                0 => None,
                1 => Some(-random.random_range(1..100_000)),
                2 => Some(0),
                _ => Some(random.random_range(1..10_000_000_000)),
            };
            self.balances.push(Balance { user: user.to_owned(), balance });
        }
        let apps: &[&str] =
            if version.has_apps() { &["", "app-1", "app-2", "free-app"] } else { &[""] };
        for service in SERVICES {
            for month in ["2025-11", "2025-12"] {
                for app in apps {
                    if random.random_range(0..3) == 0 {
                        continue;
                    }
                    let total = if *app == "free-app" {
                        UNLIMITED
                    } else {
                        [1000, 500][random.random_range(0..2)]
                    };
                    self.quotas.push(Quota {
                        user: user.to_owned(),
                        app: (*app).to_owned(),
                        service: service.to_owned(),
                        month: month.to_owned(),
                        total: Some(total),
                        used: Some(random.random_range(0..1_100)),
                    });
                }
            }
        }
        for number in 0..random.random_range(0..20) {
            let is_free = random.random_range(0..2) == 0;
            let count = random.random_range(1..50);
            self.records.push(Record {
                id: format!("{user}-{number}"),
                user: user.to_owned(),
                app: apps[random.random_range(0..apps.len())].to_owned(),
                service: SERVICES[random.random_range(0..SERVICES.len())].to_owned(),
                is_free,
                amount: Some(if is_free { 0 } else { count * random.random_range(1..2_000) }),
                count: Some(count),
            });
        }
        for number in 0..random.random_range(0..4) {
            let id = format!("recharge_{user}_{number}");
            let payment = match random.random_range(0..3) {
                0 => None,
                1 => Some(id.clone()),
                _ => Some(format!("PAY-{user}-{number}")),
            };
            let status =
                [Some("pending"), Some("success"), Some("failed"), None][random.random_range(0..4)];
            let amount = random.random_range(1..100_000_000);
            self.orders.push(Order { id, user: user.to_owned(), amount, payment, status });
        }
    }

    /// What billing-service could leave, and what nobody would think of.
    fn add_odd_ones(&mut self, version: Version) {
        let app = if version.has_apps() { "app-1" } else { "" };
        for (user, balance) in [
            ("rich", Some(9_999_999_999)),
            ("owing", Some(-9_999_999_999)),
            ("Nasty", Some(123)),
            ("tail  ", Some(5)),
            ("用户1", Some(7)),
        ] {
            self.balances.push(Balance { user: user.to_owned(), balance });
        }
        let mut quota = |user: &str, total, used| {
            let (user, app) = (user.to_owned(), app.to_owned());
            let (service, month) = ("passport".to_owned(), "2025-12".to_owned());
            self.quotas.push(Quota { user, app, service, month, total, used });
        };
        quota("nasty", Some(10), Some(3));
        quota("tail", Some(10), Some(509));
        quota("no-numbers", None, None);
        quota("minted", Some(10), Some(-997));
        quota("below", Some(-5), Some(4));
        let mut record = |id: &str, user: &str, is_free, amount, count| {
            let (id, user, app) = (id.to_owned(), user.to_owned(), app.to_owned());
            let service = "payment".to_owned();
            self.records.push(Record { id, user, app, service, is_free, amount, count });
        };
        record("odd-1", "NASTY", false, Some(123), Some(1));
        record("odd-2", "ghost", true, Some(0), Some(2));
        record("odd-3", "Ghost ", true, Some(0), Some(3));
        record("odd-4", "minted", true, Some(0), Some(-1_000));
        record("odd-5", "minted", false, Some(-100_000), Some(-10));
        record("odd-6", "no-numbers", false, None, None);
        let mut order = |id: &str, user: &str, amount, payment: Option<&str>, status| {
            let payment = payment.map(str::to_owned);
            self.orders.push(Order {
                id: id.to_owned(),
                user: user.to_owned(),
                amount,
                payment,
                status,
            });
        };
        order("odd-pending", "nasty ", 100, Some(""), Some("pending"));
        order("odd-paid", "only-orders", 29, Some("odd-paid"), Some("success"));
        order("odd-nothing", "only-orders", 0, None, Some("pending"));
        order("odd-negative", "rich", -800, None, Some("success"));
        if version.has_apps() {
            self.quotas.push(Quota {
                user: "only-free".to_owned(),
                app: "free-app".to_owned(),
                service: "passport".to_owned(),
                month: "2025-12".to_owned(),
                total: Some(UNLIMITED),
                used: Some(1_234_567),
            });
        }
    }

    /// Makes a database of that version with these rows.
    pub(crate) async fn database(&self, version: Version) -> Database {
        let database = Database::create().await;
        for sql in version.tables() {
            database.run(sql).await;
        }
        for sql in self.statements(version) {
            database.run(sql).await;
        }
        database
    }

    fn statements(&self, version: Version) -> Vec<String> {
        let user = version.user();
        let apps = version.has_apps();
        let app = |app: &str| if apps { format!("'{app}', ") } else { String::new() };
        let app_column = if apps { "app_id, " } else { "" };
        let number =
            |number: Option<i64>| number.map_or("NULL".to_owned(), |number| number.to_string());
        let money = |money: i64, scale: i64| format!("{money} / {scale}");
        let mut statements = Vec::new();
        let mut insert = |head: String, values: Vec<String>| {
            for some in values.chunks(1_000) {
                statements.push(format!("INSERT INTO {head} VALUES {}", some.join(", ")));
            }
        };
        let balances = self.balances.iter().enumerate().map(|(index, row)| {
            let balance = row.balance.map_or("NULL".to_owned(), |balance| money(balance, 100));
            format!("('b{index}', '{}', {balance})", row.user)
        });
        insert(format!("user_balance (user_balance_id, {user}, balance)"), balances.collect());
        let quotas = self.quotas.iter().enumerate().map(|(index, row)| {
            let Quota { user, service, month, .. } = row;
            let (total, used) = (number(row.total), number(row.used));
            format!(
                "('q{index}', '{user}', {}'{service}', {total}, {used}, '{month}')",
                app(&row.app)
            )
        });
        insert(
            format!(
                "free_quota (free_quota_id, {user}, {app_column}service_name, total_quota, used_quota, reset_month)"
            ),
            quotas.collect(),
        );
        let kind = |is_free: bool| if is_free { 1 } else { 2 };
        let records = self.records.iter().map(|row| {
            let Record { id, user, service, is_free, .. } = row;
            let amount = row.amount.map_or("NULL".to_owned(), |amount| money(amount, 10_000));
            let (app, count) = (app(&row.app), number(row.count));
            format!("('{id}', '{user}', {app}'{service}', {}, {amount}, {count}, '2025-12-03 04:05:06')", kind(*is_free))
        });
        insert(
            format!(
                "billing_record (billing_record_id, {user}, {app_column}service_name, type, amount, count, created_at)"
            ),
            records.collect(),
        );
        let text = |text: Option<&str>| text.map_or("NULL".to_owned(), |text| format!("'{text}'"));
        let orders = self.orders.iter().map(|row| {
            let (payment, status) = (text(row.payment.as_deref()), text(row.status));
            format!(
                "('{}', '{}', {}, {payment}, {status})",
                row.id,
                row.user,
                money(row.amount, 100)
            )
        });
        insert(
            format!(
                "recharge_order ({}, {user}, amount, {}, status)",
                version.order(),
                version.payment()
            ),
            orders.collect(),
        );
        statements
    }
}
