//! What users see of their own account, up to where the database is needed.

use super::*;

/// Every address of a user's own account, with what it cannot do without.
const ADDRESSES: [&str; 13] = [
    "/api/v1/billing/account",
    "/billing/v1/billing/account",
    "/api/v1/billing/records",
    "/billing/v1/billing/records",
    "/api/v1/billing/stats/today",
    "/billing/v1/billing/stats/today",
    "/api/v1/billing/stats/month",
    "/billing/v1/billing/stats/month",
    "/api/v1/billing/stats/summary",
    "/billing/v1/billing/stats/monthly-usage-summary",
    "/api/v1/billing/statement?month=2026-11",
    "/api/v1/billing/statement?month=2026-11&format=csv",
    "/api/v1/billing/quote?service=asset",
];

#[tokio::test]
async fn only_the_gateway_says_whose_account_it_is() {
    for path in ADDRESSES {
        let reply = send(users(), get(path)).await;
        assert_eq!((reply.status.as_u16(), reply.problem().code), (401, 100_101), "{path}");
        let stranger = send(users(), calling(get(path), "another-token", "u")).await;
        assert_eq!((stranger.status.as_u16(), stranger.problem().code), (401, 100_104), "{path}");
        // The database is away: the caller is known.
        let known = send(users(), calling(get(path), "good-token", "u")).await;
        assert_eq!((known.status.as_u16(), known.problem().code), (503, 100_202), "{path}");
        // Whose account is no question, whatever billing-service let callers say.
        let mark = if path.contains('?') { '&' } else { '?' };
        for name in ["userId", "user_id", "user"] {
            let theirs = format!("{path}{mark}{name}=v");
            let refused = send(users(), calling(get(&theirs), "good-token", "u")).await;
            assert_eq!(refused.status.as_u16(), 400, "{theirs}");
            assert_eq!(refused.problem().field.as_deref(), Some(name), "{theirs}");
        }
    }
}

#[tokio::test]
async fn a_mistake_is_named_by_its_parameter() {
    for (path, field, detail) in [
        ("records?limit=ten", "limit", "limit is \"ten\"; write a number from 1 to 200"),
        ("records?limit=0", "limit", "limit is 0; write 1 to 200"),
        ("records?limit=201", "limit", "limit is 201; write 1 to 200"),
        ("records?limit=-1", "limit", "limit is \"-1\"; write a number from 1 to 200"),
        (
            "records?cursor=x",
            "cursor",
            "cursor cannot be read; write the next_cursor of the page before, or none for the first page",
        ),
        (
            "records?from=soon",
            "from",
            "from is \"soon\"; write a moment such as 2026-11-23T08:00:00Z, or a day such as 2026-11-23 for when it begins",
        ),
        (
            "records?page=2",
            "page",
            "page is no parameter here; known are service, from, to, limit, cursor",
        ),
        ("statement", "month", "month is missing; write for instance month=2026-11"),
        (
            "statement?month=2026",
            "month",
            "month is \"2026\"; write a year and a month such as 2026-11",
        ),
        ("statement?month=2026-11&format=pdf", "format", "format is \"pdf\"; write json or csv"),
        ("quote", "service", "service is missing; write for instance service=asset"),
        (
            "quote?service=asset&units=0",
            "units",
            "units is \"0\"; write a number from 1 to 2147483647",
        ),
    ] {
        let request = calling(get(&format!("/api/v1/billing/{path}")), "good-token", "u");
        let reply = send(users(), request).await;
        let problem = reply.problem();
        assert_eq!((problem.status, problem.code), (400, 100_001), "{path}");
        assert_eq!((problem.field.as_deref(), problem.detail.as_str()), (Some(field), detail));
    }
    let unknown = calling(get("/api/v1/billing/quote?service=nothing"), "good-token", "u");
    let unknown = send(users(), unknown).await;
    assert!([403, 503].contains(&unknown.status.as_u16()), "{}", unknown.body);
}
