//! What people decide about payments that did not fit: once, and never twice for one payment.

use farebox_core::order::PaymentStatus;
use farebox_sidecar::app::{
    Action, AnomaliesError, AnomalyFilter, AnomalyState, AnomalyView, AuditFilter, Callback,
    CallbackError, PageError, Resolution, ResolveError,
};

use super::{fixture, news, order, paid, second_sidecar, success};
use crate::fixture::{Fixture, nanos};

async fn newest(farebox: &Fixture) -> AnomalyView {
    let page = farebox.app.anomalies(&AnomalyFilter::default()).await.unwrap();
    page.anomalies.into_iter().next().unwrap()
}

/// The anomaly that a callback becomes.
async fn misfit(farebox: &Fixture, callback: &Callback) -> AnomalyView {
    let refused = farebox.app.callback(callback).await.unwrap_err();
    assert!(
        matches!(refused, CallbackError::Mismatch { .. } | CallbackError::UnknownOrder { .. }),
        "{refused}"
    );
    newest(farebox).await
}

fn decide(anomaly: i64, action: Action) -> Resolution {
    Resolution {
        anomaly,
        action,
        account: None,
        reason: "ticket 7".to_owned(),
        actor: "token:ann".to_owned(),
    }
}

fn of(anomaly: i64, account: &str) -> Resolution {
    Resolution { account: Some(account.parse().unwrap()), ..decide(anomaly, Action::Credit) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_paid_is_credited_by_hand_once() {
    let farebox = fixture().await;
    let id = order(&farebox.app, "u", "10").await;
    let anomaly = misfit(&farebox, &success(&id, "p1", "9.99")).await;
    assert_eq!((anomaly.state, anomaly.resolution), (AnomalyState::Open, None));
    assert_eq!(anomaly.actions, [Action::Dismiss, Action::Credit, Action::RefundAtProvider]);
    let other = second_sidecar(&farebox).await;
    let credit = decide(anomaly.id, Action::Credit);
    // Many at once, at two sidecars, are one.
    let many = (0..10).map(|number| if number % 2 == 0 { &farebox.app } else { &other });
    let told = futures_util::future::join_all(many.map(|app| app.resolve(&credit))).await;
    for told in told {
        let resolution = told.unwrap().resolution.unwrap();
        assert_eq!(
            (resolution.action.as_str(), resolution.account.as_deref()),
            ("credit", Some("u"))
        );
        assert_eq!((resolution.by.as_str(), resolution.reason.as_str()), ("token:ann", "ticket 7"));
    }
    assert_eq!(farebox.money("u").await, "9.99 0 0");
    let about = AuditFilter { account: Some("u".parse().unwrap()), ..AuditFilter::default() };
    let actions = farebox.app.audit(&about).await.unwrap().actions;
    let lines: Vec<_> =
        actions.iter().map(|line| (line.action.as_str(), line.by.as_str())).collect();
    assert_eq!(lines, [("anomaly.resolve", "token:ann"), ("account.credit", "token:ann")]);
    assert_eq!(
        (&actions[0].before["state"], &actions[0].after["state"]),
        (&"open".into(), &"resolved".into())
    );
    // Another decision comes too late.
    let late = farebox.app.resolve(&decide(anomaly.id, Action::Dismiss)).await.unwrap_err();
    assert!(matches!(&late, ResolveError::Resolved { by, .. } if by == "token:ann"), "{late}");
    // The same news again only counts.
    assert_eq!(misfit(&farebox, &success(&id, "p1", "9.99")).await.times_seen, 2);
    assert_eq!(newest(&farebox).await.state, AnomalyState::Resolved);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_was_credited_by_hand_is_not_credited_by_its_order() {
    let farebox = fixture().await;
    let id = order(&farebox.app, "u", "10").await;
    let anomaly = misfit(&farebox, &success(&id, "p1", "9.99")).await;
    farebox.app.resolve(&decide(anomaly.id, Action::Credit)).await.unwrap();
    // Now the payment service says what it should have said before.
    let again = misfit(&farebox, &success(&id, "p1", "10")).await;
    assert_eq!((again.kind.as_str(), again.state), ("status", AnomalyState::Open));
    assert_eq!(farebox.money("u").await, "9.99 0 0");
    let twice = farebox.app.resolve(&decide(again.id, Action::Credit)).await.unwrap_err();
    assert!(matches!(twice, ResolveError::Counted { .. }), "{twice}");
    farebox.app.resolve(&decide(again.id, Action::Dismiss)).await.unwrap();
    assert_eq!(farebox.money("u").await, "9.99 0 0");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_an_order_counts_is_not_credited_by_hand() {
    let farebox = fixture().await;
    let id = order(&farebox.app, "u", "10").await;
    let anomaly = misfit(&farebox, &success(&id, "p1", "9.99")).await;
    assert!(farebox.app.callback(&success(&id, "p1", "10")).await.unwrap().credited);
    let counted = farebox.app.resolve(&decide(anomaly.id, Action::Credit)).await.unwrap_err();
    assert_eq!(
        counted.to_string(),
        format!("payment p1 is that of order {id} (paid); nothing more is owed for it")
    );
    // A second payment of a paid order was paid besides.
    let second = misfit(&farebox, &success(&id, "p2", "10")).await;
    assert_eq!(second.kind, "payment");
    farebox.app.resolve(&decide(second.id, Action::Credit)).await.unwrap();
    assert_eq!(farebox.money("u").await, "20 0 0");
    // And not when it is that of another order.
    let other = paid(&farebox.app, "v", "5", "p3").await;
    let stolen = misfit(&farebox, &success(&id, "p3", "10")).await;
    let counted = farebox.app.resolve(&decide(stolen.id, Action::Credit)).await.unwrap_err();
    assert!(
        matches!(&counted, ResolveError::Counted { by, .. } if by.contains(&other)),
        "{counted}"
    );
    assert_eq!(
        (farebox.money("u").await, farebox.money("v").await),
        ("20 0 0".into(), "5 0 0".into())
    );
    farebox.assert_sound().await;
}

/// Whichever comes first, the money comes once.
#[tokio::test(flavor = "multi_thread")]
async fn a_credit_by_hand_and_honest_news_at_the_same_moment_are_one_credit() {
    let farebox = fixture().await;
    let other = second_sidecar(&farebox).await;
    for round in 0..20 {
        let (user, payment) = (format!("u{round}"), format!("p{round}"));
        let id = order(&farebox.app, &user, "10").await;
        let anomaly = misfit(&farebox, &success(&id, &payment, "9")).await;
        let (credit, honest) = (decide(anomaly.id, Action::Credit), success(&id, &payment, "10"));
        let (by_hand, by_news) =
            tokio::join!(farebox.app.resolve(&credit), other.callback(&honest));
        let credited = [by_hand.is_ok(), by_news.is_ok_and(|noted| noted.credited)];
        let expected = if credited[0] { "9 0 0" } else { "10 0 0" };
        assert_eq!(credited.iter().filter(|is_credited| **is_credited).count(), 1, "{credited:?}");
        assert_eq!(farebox.money(&user).await, expected);
    }
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_fits_can_be_decided() {
    let farebox = fixture().await;
    let id = order(&farebox.app, "u", "10").await;
    let yen = Callback { currency: "JPY".to_owned(), ..success(&id, "p1", "10") };
    let yen = misfit(&farebox, &yen).await;
    assert_eq!(yen.actions, [Action::Dismiss, Action::RefundAtProvider]);
    let refused = farebox.app.resolve(&decide(yen.id, Action::Credit)).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "credit does not fit anomaly {} (currency, SUCCESS); write one of dismiss, refund_at_provider",
            yen.id
        )
    );
    let failed = misfit(&farebox, &news(&id, "p1", "9", PaymentStatus::Failed)).await;
    assert_eq!(failed.actions, [Action::Dismiss]);
    let refunded = farebox.app.resolve(&decide(yen.id, Action::RefundAtProvider)).await.unwrap();
    assert_eq!(refunded.resolution.unwrap().action, "refund_at_provider");
    assert_eq!(
        farebox.database.rows("SELECT COUNT(*) FROM user_balance WHERE balance <> 0").await,
        ["0"]
    );
    let nobody = farebox.app.resolve(&decide(99, Action::Dismiss)).await.unwrap_err();
    assert!(matches!(nobody, ResolveError::Unknown { anomaly: 99 }), "{nobody}");
    let named =
        Resolution { account: Some("u".parse().unwrap()), ..decide(failed.id, Action::Dismiss) };
    let refused = farebox.app.resolve(&named).await.unwrap_err();
    assert!(matches!(refused, ResolveError::Account { .. }), "{refused}");
    let empty = Resolution { reason: String::new(), ..decide(failed.id, Action::Dismiss) };
    assert!(matches!(farebox.app.resolve(&empty).await, Err(ResolveError::Length(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn money_for_an_order_that_nobody_made_goes_to_whom_people_name() {
    let farebox = fixture().await;
    let unknown = misfit(&farebox, &success("recharge_x", "p1", "7")).await;
    let refused = farebox.app.resolve(&decide(unknown.id, Action::Credit)).await.unwrap_err();
    assert!(matches!(refused, ResolveError::Account { .. }), "{refused}");
    for _ in 0..2 {
        let told = farebox.app.resolve(&of(unknown.id, "u")).await.unwrap();
        assert_eq!(told.resolution.unwrap().account.as_deref(), Some("u"));
    }
    let other = farebox.app.resolve(&of(unknown.id, "v")).await.unwrap_err();
    assert!(matches!(other, ResolveError::Resolved { .. }), "{other}");
    assert_eq!(farebox.money("u").await, "7 0 0");
    // An order says itself whose it is.
    let id = order(&farebox.app, "w", "10").await;
    let anomaly = misfit(&farebox, &success(&id, "p2", "9")).await;
    let refused = farebox.app.resolve(&of(anomaly.id, "u")).await.unwrap_err();
    assert!(matches!(refused, ResolveError::Account { .. }), "{refused}");
    farebox.app.resolve(&of(anomaly.id, "w")).await.unwrap();
    assert_eq!(farebox.view("w").await.balance, nanos("9"));
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anomalies_are_found_by_state_in_pages() {
    let farebox = fixture().await;
    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(misfit(&farebox, &success("recharge_x", &format!("p{number}"), "1")).await.id);
    }
    farebox.app.resolve(&decide(ids[1], Action::Dismiss)).await.unwrap();
    let all = |state, limit| AnomalyFilter { state, limit, cursor: None };
    for (state, expected) in [
        (Some(AnomalyState::Open), vec![ids[3], ids[2], ids[0]]),
        (Some(AnomalyState::Resolved), vec![ids[1]]),
        (None, vec![ids[3], ids[2], ids[1], ids[0]]),
    ] {
        let (mut seen, mut filter) = (Vec::new(), all(state, Some(2)));
        loop {
            let page = farebox.app.anomalies(&filter).await.unwrap();
            seen.extend(page.anomalies.iter().map(|anomaly| anomaly.id));
            filter.cursor = page.next_cursor;
            if filter.cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected, "{state:?}");
    }
    let wrong = farebox.app.anomalies(&all(None, Some(0))).await;
    assert!(matches!(wrong, Err(AnomaliesError::Page(PageError::Limit { limit: 0 }))));
    let nobody = farebox.app.anomaly(99).await;
    assert!(matches!(nobody, Err(AnomaliesError::Unknown { id: 99 })));
    assert_eq!(farebox.app.anomaly(ids[1]).await.unwrap().actions, []);
}
