//! Free quotas of many accounts: made ahead of their month, and made to follow a changed configuration.

use farebox_sidecar::app::App;

use crate::clock::sidecar_at;
use crate::database::Database;
use crate::fixture::Fixture;

mod apply;
mod months;
mod prepare;

/// Moments in Shanghai, as seconds since 1970: the end of 2026-11-27, the beginnings of the days after it.
const END_OF_27TH: &str = "1795795199.999";
const ON_28TH: &str = "1795795200.000";
const LATER_ON_28TH: &str = "1795795800.000";
const ON_29TH: &str = "1795881600.000";
const DECEMBER: &str = "1796054400.000";

const FREE: &[(&str, u64)] = &[("asset", 10)];
const PRICES: &[(&str, &str)] = &[("asset", "0.1"), ("mail", "0.2")];

/// A sidecar for which it is the 28th of November.
async fn on_28th() -> Fixture {
    let database = Database::create().await;
    let app = sidecar_at(&database, ON_28TH, FREE, PRICES).await;
    Fixture { database, app }
}

impl Fixture {
    /// Another sidecar on the same database, for which it is another time.
    async fn at(&self, time: &str, free_quotas: &[(&str, u64)]) -> App {
        sidecar_at(&self.database, time, free_quotas, PRICES).await
    }

    /// `user service total used+held`, with `ahead` where a row is not in use, of a month.
    async fn rows_of(&self, month: &str) -> Vec<String> {
        let sql = format!(
            "SELECT CONCAT(user_id, ' ', service_name, ' ', total_quota, ' ', used_quota, '+', held_quota,
               IF(prepared, ' ahead', ''))
             FROM free_quota WHERE reset_month = '{month}' ORDER BY user_id, service_name"
        );
        self.database.rows(sql).await
    }

    /// Accounts `p-0000` and so on that have used a unit of `asset` in November.
    async fn crowd(&self, accounts: u32) {
        let number = format!(
            "WITH RECURSIVE digit AS (SELECT 0 AS n UNION ALL SELECT n + 1 FROM digit WHERE n < 99)
             SELECT UUID(), CONCAT('p-', LPAD(a.n + 100 * b.n, 4, '0')), COLUMNS UTC_TIMESTAMP(3), UTC_TIMESTAMP(3)
             FROM digit a, digit b WHERE a.n + 100 * b.n < {accounts}"
        );
        let balances = number.replace("COLUMNS", "0, 0, 0, 'CNY', 0,");
        let quotas = number.replace("COLUMNS", "'asset', '2026-11', 10, 1, 0,");
        self.database
            .run(format!(
                "INSERT INTO user_balance (user_balance_id, user_id, balance, held, receivable, currency, entry_seq,
                   created_at, updated_at) {balances}"
            ))
            .await;
        self.database
            .run(format!(
                "INSERT INTO free_quota (free_quota_id, user_id, service_name, reset_month, total_quota, used_quota,
                   held_quota, created_at, updated_at) {quotas}"
            ))
            .await;
    }
}

/// Makes what is due.
async fn prepare(app: &App) -> u64 {
    app.prepare_quotas(|| true).await.unwrap()
}
