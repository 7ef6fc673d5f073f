//! Sidecars whose database has a clock of their own: what it says when they ask.

use farebox_sidecar::app::App;
use farebox_sidecar::store::Store;

use crate::database::Database;
use crate::fixture::settings;

/// What is asked by every new connection of users that are no administrators: theirs is the time in their name. Others
/// that run tests on the same server are administrators, or set the same.
const CLOCK_IN_NAME: &str = "SET timestamp = CAST(SUBSTRING_INDEX(SUBSTRING_INDEX(USER(), '@', 1), '-', -1) AS DECIMAL(16, 6))";

/// A migrated database and a sidecar on it whose connections all have this time, in seconds since 1970, for ever.
pub(crate) async fn sidecar_at(
    database: &Database,
    time: &str,
    free_quotas: &[(&str, u64)],
    prices: &[(&str, &str)],
) -> App {
    let user = format!("clock-{time}");
    for sql in [
        format!("SET GLOBAL init_connect = \"{CLOCK_IN_NAME}\""),
        format!("CREATE USER IF NOT EXISTS '{user}'@'%' IDENTIFIED BY ''"),
        format!("GRANT ALL ON {}.* TO '{user}'@'%'", database.name),
    ] {
        database.run(sql).await;
    }
    let store = Store::connect(&database.options.clone().username(&user), 8).await.unwrap();
    store.migrate().await.unwrap();
    let app = App::new(store, settings(free_quotas, prices));
    app.seed_prices().await.unwrap();
    app
}
