//! A changed configuration, for the month that has begun.

use farebox_core::wire::Report;
use farebox_sidecar::app::{App, QuotaFilter, QuotasError};

use crate::calls::{deduct, told};
use crate::fixture::{Fixture, want};

const PRICES: &[(&str, &str)] = &[("asset", "0.1"), ("mail", "0.2")];

/// `service raised-lowered(above)`, by service.
async fn apply(app: &App, filter: &QuotaFilter) -> String {
    say(app.apply_quotas(filter, "more for all", "tests").await.unwrap())
}

async fn plan(app: &App, filter: &QuotaFilter) -> String {
    say(app.plan_quotas(filter).await.unwrap())
}

fn say(changes: farebox_sidecar::app::QuotaChanges) -> String {
    let services = changes.services.iter().map(|changes| {
        format!("{} +{}-{}({})", changes.service, changes.raised, changes.lowered, changes.above)
    });
    services.collect::<Vec<_>>().join(", ")
}

fn of_account(account: &str) -> QuotaFilter {
    QuotaFilter { account: Some(account.parse().unwrap()), service: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_follow_the_configuration_never_below_what_is_used_and_held() {
    let farebox = Fixture::new(&[("asset", 10)], PRICES).await;
    for (user, units) in [("a", 1), ("b", 7), ("c", 4)] {
        farebox.told(deduct(user, user, "asset", units)).await;
    }
    let mut edge = farebox.gateway("edge");
    let lease = edge.want(want("c", "asset", 3, 3)).await.unwrap();
    let fewer = farebox.sidecar(&[("asset", 5)], PRICES).await;
    let all = QuotaFilter::default();
    let expected = "asset +0-3(2), mail +0-0(0)";
    assert_eq!(plan(&fewer, &all).await, expected);
    assert_eq!(farebox.quotas("a").await, "asset 1+0/10", "a plan changes nothing");
    assert_eq!(apply(&fewer, &all).await, expected);
    assert_eq!(farebox.quotas("a").await, "asset 1+0/5");
    assert_eq!(farebox.quotas("b").await, "asset 7+0/7");
    assert_eq!(farebox.quotas("c").await, "asset 4+3/7");
    assert_eq!(apply(&fewer, &all).await, "asset +0-0(0), mail +0-0(0)", "once is enough");

    // What a gateway gives back is beyond the total now, and is taken the next time.
    let all_back = Report { lease: lease.lease, used: 0, in_flight: 0, returned: 3, close: true };
    edge.report(all_back).await;
    assert_eq!(apply(&fewer, &all).await, "asset +0-1(0), mail +0-0(0)");
    assert_eq!(farebox.quotas("c").await, "asset 4+0/5");

    let more = farebox.sidecar(&[("asset", 20)], PRICES).await;
    assert_eq!(apply(&more, &all).await, "asset +3-0(0), mail +0-0(0)");
    let grant = farebox.gateway("other").want(want("c", "asset", 16, 16)).await.unwrap();
    assert_eq!(grant.free_units, 16, "more can be granted at once");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_account_and_one_service_can_be_named_and_others_stay() {
    let quotas = [("asset", 10), ("mail", 10)];
    let farebox = Fixture::new(&quotas, PRICES).await;
    for user in ["a", "b"] {
        for service in ["asset", "mail"] {
            farebox.told(deduct(&format!("{user}{service}"), user, service, 1)).await;
        }
    }
    let more = farebox.sidecar(&[("asset", 20), ("mail", 20)], PRICES).await;
    assert_eq!(apply(&more, &of_account("a")).await, "asset +1-0(0), mail +1-0(0)");
    let of_mail = QuotaFilter { service: Some("mail".parse().unwrap()), account: None };
    assert_eq!(apply(&more, &of_mail).await, "mail +1-0(0)");
    assert_eq!(farebox.quotas("a").await, "asset 1+0/20, mail 1+0/20");
    assert_eq!(farebox.quotas("b").await, "asset 1+0/10, mail 1+0/20");

    let nobody = more.apply_quotas(&of_account("nobody"), "r", "tests").await;
    assert!(matches!(nobody, Err(QuotasError::NoAccount { .. })), "{nobody:?}");
    let typo = QuotaFilter { service: Some("typo".parse().unwrap()), account: None };
    let unknown = more.plan_quotas(&typo).await;
    assert!(matches!(unknown, Err(QuotasError::Unknown { .. })), "{unknown:?}");
    let silent = more.apply_quotas(&QuotaFilter::default(), "", "tests").await;
    assert_eq!(silent.unwrap_err().to_string(), "reason has 0 bytes; give 1 to 1000");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_account_that_changes_has_a_line_in_the_audit_log() {
    let farebox = Fixture::new(&[("asset", 10), ("mail", 10)], PRICES).await;
    for (user, service) in [("a", "asset"), ("a", "mail"), ("b", "asset")] {
        farebox.told(deduct(&format!("{user}{service}"), user, service, 1)).await;
    }
    let more = farebox.sidecar(&[("asset", 20), ("mail", 30)], PRICES).await;
    apply(&more, &QuotaFilter::default()).await;
    apply(&more, &QuotaFilter::default()).await;
    let month = &farebox.view("a").await.free_quotas[0].month;
    let line = |user: &str, before: &str, after: &str| {
        let json = |totals| format!(r#"{{"free_quotas":{{{totals}}},"month":"{month}"}}"#);
        format!("tests quotas.apply {user} more for all {} {}", json(before), json(after))
    };
    let sql = "SELECT actor, action, subject, reason, before_json, after_json FROM audit_log ORDER BY audit_log_id";
    assert_eq!(
        farebox.database.rows(sql).await,
        [
            line("a", r#""asset":10,"mail":10"#, r#""asset":20,"mail":30"#),
            line("b", r#""asset":10"#, r#""asset":20"#),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_accounts_change_while_they_are_charged_and_every_unit_is_accounted_for() {
    let farebox = Fixture::new(&[("asset", 10)], PRICES).await;
    let users: Vec<String> = (0..450).map(|number| format!("u{number:03}")).collect();
    for user in &users {
        farebox.told(deduct(user, user, "asset", 1)).await;
    }
    let more = farebox.sidecar(&[("asset", 15)], PRICES).await;
    let calls = tokio::spawn({
        let (app, users) = (farebox.app.clone(), users.clone());
        async move {
            for round in 0..2 {
                for user in users.iter().step_by(9) {
                    let answer = told(&app, deduct(&format!("{user}-{round}"), user, "asset", 2));
                    assert_eq!(answer.await, "2 free, 0 paid for 0, leaves 0");
                }
            }
        }
    });
    assert_eq!(apply(&more, &QuotaFilter::default()).await, "asset +450-0(0), mail +0-0(0)");
    calls.await.unwrap();
    assert_eq!(farebox.quotas("u009").await, "asset 5+0/15");
    assert_eq!(farebox.quotas("u010").await, "asset 1+0/15");
    farebox.assert_sound().await;
}
