//! Changes of free quotas that are refused before the database is asked.

use super::*;

#[tokio::test]
async fn a_change_needs_an_operator_a_service_that_is_known_and_a_reason() {
    let change = |body: &str| {
        let request = Request::post("/admin/v1/quotas").header("accept-language", "en");
        request.body(Body::from(body.to_owned())).unwrap()
    };
    let good = r#"{"reason": "r"}"#;
    let stranger = send(operators(&["good"]), change(good)).await;
    assert_eq!((stranger.status.as_u16(), stranger.problem().code), (401, 100_104));
    for (body, status, field) in [
        ("{}", 400, Some("reason")),
        (r#"{"reason": ""}"#, 400, Some("reason")),
        (r#"{"reason": "r", "services": "asset"}"#, 400, Some("services")),
        (r#"{"reason": "r", "account": ""}"#, 400, Some("account")),
        (r#"{"reason": "r", "service": "typo"}"#, 400, Some("service")),
        (r#"{"reason": "r", "service": "typo", "dry_run": true}"#, 400, Some("service")),
        (good, 503, None),
    ] {
        let request = showing(change(body), "Bearer good");
        let problem = send(operators(&["good"]), request).await.problem();
        assert_eq!((problem.status, problem.field.as_deref()), (status, field), "{body}");
    }
}
