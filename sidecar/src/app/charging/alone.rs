//! The turn of one account that others lock too.

use farebox_core::id::AccountId;

use super::round::Locking;
use super::transaction::{self, Concluded};
use super::turns::Item;
use crate::app::App;

/// Decides the requests of one account, waiting for its row.
pub(super) async fn run(app: &App, _account: &AccountId, items: Vec<Item>) -> Concluded {
    let _permit = app.turns.alone.acquire().await;
    transaction::conclude(app, items, Locking::Wait, &[]).await
}
