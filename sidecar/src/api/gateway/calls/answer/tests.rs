//! Every outcome and every failure as callers see it.

use std::sync::Arc;

use axum::http::HeaderMap;
use farebox_core::call::Reason;
use farebox_core::wire::{FieldError, FreeQuota};
use serde_json::{Value, json};

use super::*;
use crate::store::StoreError;

/// A response in short.
struct Seen {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

fn asked() -> Asked {
    Asked { units: 3, service: Some("asset".parse().unwrap()) }
}

fn speaker(language: Language, faults: &Faults) -> Speaker<'_> {
    Speaker { language, endpoint: "deduct", is_keyed: true, is_batch: false, faults }
}

/// What the caller of one request sees.
async fn seen(language: Language, decided: Result<Decided, CallError>) -> Seen {
    let faults = Faults::default();
    let answers = speaker(language, &faults).answers(vec![Ok(asked())], vec![decided]);
    read(respond(&answers, false, language)).await
}

async fn read(response: Response) -> Seen {
    let (head, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let body = serde_json::from_slice(&body).unwrap();
    Seen { status: head.status.as_u16(), headers: head.headers, body }
}

fn outcome(outcome: Outcome) -> Result<Decided, CallError> {
    Ok(Decided::Outcome(outcome))
}

fn refusal(code: Code) -> Result<Decided, CallError> {
    let shortfall = Shortfall {
        remaining_free: 1,
        available: "0.5".parse().unwrap(),
        cost: "1".parse().unwrap(),
        price: (code == Code::InsufficientBalance).then(|| "0.5".parse().unwrap()),
        free_quota: FreeQuota { total: 10, remaining: 1, resets_in_s: 86_400 },
    };
    outcome(Outcome::Refused(Refusal { code: code.number(), shortfall }))
}

fn released() -> Outcome {
    Outcome::Released(ReleaseReply {
        reservation_id: "r1".to_owned(),
        free_units: 1,
        paid_units: 2,
        amount: "0.2".parse().unwrap(),
        balance: "1".parse().unwrap(),
        available: "1".parse().unwrap(),
        currency: "CNY".to_owned(),
    })
}

fn away() -> Arc<StoreError> {
    Arc::new(StoreError::Unreachable(sqlx::Error::PoolTimedOut))
}

#[tokio::test]
async fn what_was_decided_is_answered_as_its_own_reply() {
    let reply = CheckReply {
        allowed: false,
        reason: Reason::InsufficientBalance,
        remaining_free: 1,
        available: "0.5".parse().unwrap(),
        cost: "1".parse().unwrap(),
        price: None,
        price_units: None,
        parts: Vec::new(),
        packages: None,
        currency: "CNY".to_owned(),
    };
    let check = seen(Language::English, Ok(Decided::Checked(reply))).await;
    assert_eq!(check.status, 200, "a check that says no is an answer, not a refusal");
    assert_eq!(
        check.body,
        json!({"allowed": false, "reason": "insufficient balance", "remaining_free": 1, "available": "0.5",
            "cost": "1", "currency": "CNY"})
    );
    let release = seen(Language::English, outcome(released())).await;
    assert_eq!((release.status, release.body["reservation_id"].as_str()), (200, Some("r1")));
    assert_eq!(release.headers["content-type"], "application/json");
}

#[tokio::test]
async fn a_refusal_says_what_there_is_what_it_takes_and_what_helps() {
    let seen = seen(Language::English, refusal(Code::InsufficientBalance)).await;
    assert_eq!(seen.status, 402);
    assert_eq!(seen.headers["content-type"], "application/problem+json");
    assert!(!seen.headers.contains_key("retry-after"), "waiting does not help");
    assert_eq!(
        seen.body,
        json!({
            "type": "urn:farebox:error:190102",
            "title": "Insufficient balance",
            "status": 402,
            "detail": "the available balance is 0.5, this request takes 1; add money, then send it under a new key",
            "code": 190_102,
            "remaining_free": 1,
            "available": "0.5",
            "cost": "1",
            "price": "0.5",
            "free_quota": {"total": 10, "remaining": 1, "resets_in_s": 86_400}
        })
    );
}

#[tokio::test]
async fn refusals_are_told_in_the_callers_language() {
    use Language::{Chinese, English};
    for (code, language, status, detail) in [
        (
            Code::InsufficientBalance,
            Chinese,
            402,
            "可用余额: 0.5，本次请求需要: 1；请充值后换用新的 key 重试",
        ),
        (
            Code::InsufficientQuota,
            English,
            429,
            "1 of this month's 10 free units are left, this request takes 3, and the service cannot be paid for; wait for the reset, then send it under a new key",
        ),
        (
            Code::InsufficientQuota,
            Chinese,
            429,
            "本月免费额度 10 次剩余 1 次，本次请求需要 3 次；该服务不支持余额支付，请等待下月重置后换用新的 key 重试",
        ),
        (
            Code::UnknownService,
            English,
            403,
            "asset has neither a price nor a free quota; correct the service's name, or tell the operator",
        ),
        (
            Code::UnknownService,
            Chinese,
            403,
            "服务 asset 既无价格也无免费额度；请更正服务名称，或联系服务商",
        ),
        (
            Code::AccountFrozen,
            English,
            403,
            "the account is frozen: neither its money nor its free units can be used; have the operator thaw it, then send it under a new key",
        ),
        (
            Code::AccountFrozen,
            Chinese,
            403,
            "账户已被冻结，余额和免费额度均不可用；请联系服务商解冻后换用新的 key 重试",
        ),
    ] {
        let seen = seen(language, refusal(code)).await;
        assert_eq!((seen.status, seen.body["detail"].as_str()), (status, Some(detail)));
        assert_eq!(seen.headers["content-language"], language.tag());
        assert_eq!(seen.body["remaining_free"], 1, "{code:?}");
        let retry_after = seen.headers.get("retry-after").map(|value| value.to_str().unwrap());
        assert_eq!(retry_after, (status == 429).then_some("86400"));
    }
}

#[tokio::test]
async fn every_failure_has_its_status_and_says_when_to_come_again() {
    let service = "nope".parse().unwrap();
    let invalid =
        FieldError { field: "units".into(), value: "9".into(), problem: "must be 3 or less" };
    let ended = "reservation r1 was released";
    for (err, status, code, retry, detail) in [
        (CallError::Invalid(invalid), 400, 100_001, false, "units is 9: must be 3 or less"),
        (
            CallError::UnknownService { service },
            403,
            190_205,
            false,
            "nope has neither a price nor a free quota; correct the service's name, or tell the operator",
        ),
        (
            CallError::KeyReused { key: "k".into() },
            409,
            100_302,
            false,
            "key \"k\" was used for another request; give this one a key of its own",
        ),
        (
            CallError::NotFound { what: "reservation", id: "r1".into() },
            404,
            100_301,
            false,
            "no reservation has the id \"r1\"",
        ),
        (CallError::Ended { problem: ended.into() }, 409, 100_302, false, ended),
        (
            CallError::Busy,
            503,
            190_402,
            true,
            "the account is busy: other requests or gateways hold it; send the same request again",
        ),
        (
            CallError::Overloaded { count: 100 },
            503,
            100_303,
            true,
            "100 requests wait already; send the same request again",
        ),
        (
            CallError::Store(away()),
            503,
            100_202,
            true,
            "the database does not answer; send the same request again",
        ),
    ] {
        let seen = seen(Language::English, Err(err)).await;
        assert_eq!((seen.status, seen.body["code"].as_u64()), (status, Some(code)), "{detail}");
        assert_eq!(seen.body["detail"], detail);
        assert_eq!(seen.headers.contains_key("retry-after"), retry, "{detail}");
    }
}

#[tokio::test]
async fn failures_are_told_in_chinese_too() {
    for (err, detail) in [
        (
            CallError::KeyReused { key: "k".into() },
            "key \"k\" 已用于内容不同的请求；请为本次请求使用新的 key",
        ),
        (CallError::NotFound { what: "reservation", id: "r1".into() }, "没有 id 为 \"r1\" 的预留"),
        (
            CallError::NotFound { what: "billing record", id: "b1".into() },
            "没有 id 为 \"b1\" 的计费记录",
        ),
        (CallError::Busy, "账户正被其他请求或网关占用；未扣费，请稍后重发同一请求"),
        (CallError::Overloaded { count: 9 }, "已有 9 个请求在等待；未扣费，请稍后重发同一请求"),
        (CallError::Store(away()), "数据库没有应答；请稍后重发同一请求，不会重复扣费"),
    ] {
        let seen = seen(Language::Chinese, Err(err)).await;
        assert_eq!(seen.body["detail"], detail);
        assert_eq!(seen.headers["content-language"], "zh-CN");
    }
}

#[tokio::test]
async fn a_deduct_that_was_undone_first_is_a_conflict() {
    for (language, detail) in [
        (
            Language::English,
            "a refund undid this deduct before it arrived; nothing was charged, and nothing will be under this key",
        ),
        (Language::Chinese, "该扣费在到达之前已被撤销；未扣费，此 key 今后也不会扣费"),
    ] {
        let seen = seen(language, outcome(Outcome::Cancelled)).await;
        assert_eq!((seen.status, seen.body["code"].as_u64()), (409, Some(100_302)));
        assert_eq!(seen.body["detail"], detail);
    }
}

#[tokio::test]
async fn a_commit_that_says_something_else_names_its_reservation() {
    for (language, detail) in [
        (Language::English, "reservation r1 was committed already, with another content"),
        (Language::Chinese, "预留 r1 已按另一内容提交"),
    ] {
        let faults = Faults::default();
        let speaker = Speaker { is_keyed: false, ..speaker(language, &faults) };
        let reused = CallError::KeyReused { key: "r1".to_owned() };
        let answers = speaker.answers(vec![Ok(asked())], vec![Err(reused)]);
        let seen = read(respond(&answers, false, language)).await;
        assert_eq!((seen.status, seen.body["detail"].as_str()), (409, Some(detail)));
    }
}

#[tokio::test]
async fn a_fault_that_is_no_outage_keeps_its_text_to_itself() {
    let fault = StoreError::Missing { table: "user_balance", key: "secret-user".to_owned() };
    let seen = seen(Language::English, Err(CallError::Store(Arc::new(fault)))).await;
    assert_eq!((seen.status, seen.body["code"].as_u64()), (500, Some(100_202)));
    assert_eq!(seen.body["detail"], "internal error; the log says more");
    assert!(!seen.headers.contains_key("retry-after"), "it does not end by itself");
}

#[tokio::test]
async fn each_item_of_a_batch_has_its_own_answer_in_its_place() {
    let faults = Faults::default();
    let speaker = Speaker { is_batch: true, ..speaker(Language::English, &faults) };
    let requests = vec![
        Ok(asked()),
        Err(Malformed::new("items[1].count", "items[1].count is 0: must be 1 to 2147483647")),
        Ok(asked()),
        Ok(asked()),
        Ok(asked()),
        Ok(asked()),
    ];
    let too_many =
        FieldError { field: "units".into(), value: "9".into(), problem: "must be 3 or less" };
    let decided = vec![
        outcome(released()),
        refusal(Code::InsufficientBalance),
        Err(too_many.into()),
        Err(CallError::Busy),
    ];
    let seen = read(respond(&speaker.answers(requests, decided), true, Language::English)).await;
    assert_eq!(
        (seen.status, seen.headers["content-type"].as_bytes()),
        (200, &b"application/json"[..])
    );
    let results = seen.body["results"].as_array().unwrap();
    let statuses: Vec<_> = results.iter().map(|item| item["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 400, 402, 400, 503, 500], "the last one was forgotten");
    assert_eq!(results[0]["result"]["reservation_id"], "r1");
    assert!(results[0].get("problem").is_none() && results[1].get("result").is_none());
    assert_eq!(results[1]["problem"]["field"], "items[1].count");
    assert_eq!(results[2]["problem"]["available"], "0.5");
    assert_eq!(results[3]["problem"]["field"], "items[3].units");
    assert_eq!(results[3]["problem"]["detail"], "items[3].units is 9: must be 3 or less");
    assert_eq!(results[4]["problem"]["code"], 190_402);
}

#[tokio::test]
async fn a_batch_of_one_is_answered_as_a_batch() {
    let faults = Faults::default();
    let speaker = Speaker { is_batch: true, ..speaker(Language::English, &faults) };
    let answers = speaker.answers(vec![Ok(asked())], vec![outcome(released())]);
    let seen = read(respond(&answers, true, Language::English)).await;
    assert_eq!(seen.body["results"][0]["status"], 200);
}
