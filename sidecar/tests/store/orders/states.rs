//! What every status does to an order in every state, and every order of statuses.

use farebox_core::order::{PaymentStatus, State};
use farebox_sidecar::app::CallbackError;

use super::{fixture, news, order, refund, success};
use crate::fixture::Fixture;

/// What a callback leads to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Effect {
    /// Credited; the order is paid.
    Credits,
    /// The order ends.
    Ends(State),
    /// Nothing changes, and the sender may forget it.
    Nothing,
    /// Nothing changes, and the sender must repeat it: the payment service has to confirm it and is away.
    Asks,
    /// Nothing changes, and people will look.
    Refused,
}

const STATUSES: [PaymentStatus; 6] = [
    PaymentStatus::Pending,
    PaymentStatus::Success,
    PaymentStatus::Failed,
    PaymentStatus::Closed,
    PaymentStatus::PartiallyRefunded,
    PaymentStatus::Refunded,
];

/// The table that payment teams are promised, with the statuses as its columns.
const TABLE: [(State, [Effect; 6]); 6] = {
    use Effect::{Asks, Credits, Ends, Nothing, Refused};
    const FAILS: Effect = Ends(State::Failed);
    const CLOSES: Effect = Ends(State::Closed);
    [
        (State::Pending, [Nothing, Credits, FAILS, CLOSES, Asks, Asks]),
        (State::Failed, [Nothing, Asks, Nothing, Nothing, Asks, Asks]),
        (State::Closed, [Nothing, Refused, Nothing, Nothing, Refused, Refused]),
        (State::Paid, [Nothing, Nothing, Nothing, Nothing, Asks, Asks]),
        (State::PartlyRefunded, [Nothing, Nothing, Nothing, Nothing, Asks, Asks]),
        (State::Refunded, [Nothing, Nothing, Nothing, Nothing, Nothing, Nothing]),
    ]
};

/// A new order for 10 in this state, whose payment has the name of its user.
async fn order_in(farebox: &Fixture, state: State, account: &str) -> String {
    let id = order(&farebox.app, account, "10").await;
    let said = async |status| {
        farebox.app.callback(&news(&id, account, "10", status)).await.unwrap();
    };
    match state {
        State::Pending => said(PaymentStatus::Pending).await,
        State::Failed => said(PaymentStatus::Failed).await,
        State::Closed => said(PaymentStatus::Closed).await,
        State::Paid | State::PartlyRefunded | State::Refunded => {
            said(PaymentStatus::Success).await;
        }
    }
    let back = match state {
        State::PartlyRefunded => Some("4"),
        State::Refunded => Some("10"),
        _ => None,
    };
    if let Some(amount) = back {
        let refund_id = refund(&farebox.app, &id, amount).await;
        farebox.end_refund(&refund_id).await;
    }
    id
}

/// The balance of an account that orders in this state leave.
fn balance_in(state: State) -> &'static str {
    match state {
        State::Paid => "10",
        State::PartlyRefunded => "6",
        State::Pending | State::Failed | State::Closed | State::Refunded => "0",
    }
}

async fn check(farebox: &Fixture, state: State, status: PaymentStatus, effect: Effect) {
    let case = format!("{state} and {status}");
    let account = format!("{state}-{status}");
    let id = order_in(farebox, state, &account).await;
    assert!(farebox.order_line(&id).await.starts_with(state.as_str()), "{case}");
    let (before, seen) = (farebox.database.dump(&["*"], &[]).await, farebox.anomalies().await);
    let answer = farebox.app.callback(&news(&id, &account, "10", status)).await;
    let after = match effect {
        Effect::Credits => State::Paid,
        Effect::Ends(state) => state,
        Effect::Nothing | Effect::Asks | Effect::Refused => state,
    };
    match (effect, answer) {
        (Effect::Asks, Err(CallbackError::Unconfirmed { order_id, .. })) => {
            assert_eq!(order_id, id);
        }
        (Effect::Refused, Err(CallbackError::Mismatch { order_id, kind })) => {
            assert_eq!((order_id, kind), (id.clone(), "status"));
        }
        (Effect::Credits | Effect::Ends(_) | Effect::Nothing, Ok(noted)) => {
            let changes = effect != Effect::Nothing;
            assert_eq!((noted.order_id.as_str(), noted.state), (id.as_str(), after), "{case}");
            let did = (noted.credited, noted.changed);
            assert_eq!(did, (effect == Effect::Credits, changes), "{case}");
        }
        (_, answer) => panic!("{case}: {answer:?}"),
    }
    let view = farebox.app.order(&id, None).await.unwrap();
    assert_eq!(view.state, after, "{case}");
    let money = farebox.app.account(&account.parse().unwrap()).await.unwrap();
    let balance = money.map_or_else(|| "0".to_owned(), |view| view.balance.to_string());
    assert_eq!(balance, balance_in(after), "{case}");
    if matches!(effect, Effect::Nothing | Effect::Asks) {
        assert_eq!(farebox.database.dump(&["*"], &[]).await, before, "{case}");
    }
    let new = farebox.anomalies().await.split_off(seen.len());
    let expected = [format!("status {id} {account} 1")];
    assert_eq!(new, expected[..usize::from(effect == Effect::Refused)], "{case}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_status_in_every_state_does_what_the_table_says() {
    let farebox = fixture().await;
    for (state, effects) in TABLE {
        for (status, effect) in STATUSES.into_iter().zip(effects) {
            check(&farebox, state, status, effect).await;
        }
    }
    farebox.assert_sound().await;
}

/// Every order of the items.
fn permutations<T: Copy>(items: &[T]) -> Vec<Vec<T>> {
    if items.is_empty() {
        return vec![vec![]];
    }
    let mut all = Vec::new();
    for (index, &first) in items.iter().enumerate() {
        let rest = [&items[..index], &items[index + 1..]].concat();
        for tail in permutations(&rest) {
            all.push([&[first][..], &tail].concat());
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_in_any_order_and_twice_credit_once_or_never() {
    use PaymentStatus::{Closed, Failed, Pending, Success};
    let farebox = fixture().await;
    for statuses in permutations(&[Pending, Failed, Success, Closed]) {
        let case = format!("{statuses:?}");
        let account = statuses.iter().map(|status| status.as_str()).collect::<Vec<_>>().join("-");
        let id = order(&farebox.app, &account, "10").await;
        let first = statuses.iter().find(|status| **status != Pending);
        let mut credits = 0;
        for status in statuses.iter().chain(&statuses) {
            match farebox.app.callback(&news(&id, &account, "10", *status)).await {
                Ok(noted) => credits += u32::from(noted.credited),
                Err(CallbackError::Unconfirmed { .. }) => {
                    assert_eq!(first, Some(&Failed), "{case}")
                }
                Err(CallbackError::Mismatch { .. }) => assert_eq!(first, Some(&Closed), "{case}"),
                Err(err) => panic!("{case}: {err}"),
            }
        }
        // The first news decides; only the payment service's own word could change a failure.
        assert_eq!(credits, u32::from(first == Some(&Success)), "{case}");
        let entries =
            format!("ledger_entry WHERE kind = 'recharge' AND book = 'user' AND ref_id = '{id}'");
        assert_eq!(farebox.count(&entries).await, credits.to_string(), "{case}");
    }
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_news_names_the_payment() {
    let farebox = fixture().await;
    let id = order(&farebox.app, "u", "10").await;
    let pending = news(&id, "p1", "10", PaymentStatus::Pending);
    let noted = farebox.app.callback(&pending).await.unwrap();
    assert_eq!((noted.state, noted.changed), (State::Pending, false));
    assert_eq!(farebox.order_line(&id).await, "pending 10 p1 not credited");
    let other = farebox.app.callback(&success(&id, "p2", "10")).await.unwrap_err();
    assert!(matches!(other, CallbackError::Mismatch { kind: "payment", .. }), "{other}");
    assert!(farebox.app.callback(&success(&id, "p1", "10")).await.unwrap().credited);
    farebox.assert_sound().await;
}
