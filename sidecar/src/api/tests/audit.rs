//! The audit log for operators, up to where the database is needed.

use super::*;

#[tokio::test]
async fn only_an_operator_reads_what_operators_did_and_a_mistake_is_named() {
    let path = "/admin/v1/audit";
    let stranger = send(operators(&["good"]), get(path)).await;
    assert_eq!((stranger.status.as_u16(), stranger.problem().code), (401, 100_104));
    let ask = async |query: &str| {
        let request = showing(get(&format!("{path}{query}")), "Bearer good");
        send(operators(&["good"]), request).await.problem()
    };
    for (query, field, detail) in [
        (
            "?who=ann",
            "who",
            "who is no parameter here; known are account, by, since, limit, cursor",
        ),
        ("?by=a&by=b", "by", "by occurs more than once; write it once"),
        ("?account=", "account", "account id is empty"),
        ("?limit=ten", "limit", "limit is \"ten\"; write a number from 1 to 200"),
        ("?limit=201", "limit", "limit is 201; write 1 to 200"),
        (
            "?since=yesterday",
            "since",
            "since is \"yesterday\"; write for instance 2026-01-31T00:00:00Z",
        ),
        (
            "?cursor=x",
            "cursor",
            "cursor cannot be read; write the next_cursor of the page before, or none for the first page",
        ),
    ] {
        let problem = ask(query).await;
        assert_eq!((problem.status, problem.code), (400, 100_001), "{query}");
        assert_eq!((problem.field.as_deref(), problem.detail.as_str()), (Some(field), detail));
    }
    let good = ask("?account=u&by=ann&since=2026-01-31T00:00:00Z&limit=200&cursor=7").await;
    assert_eq!((good.status, good.code), (503, 100_202));
}
