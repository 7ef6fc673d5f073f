//! What people are told about a request that was not met: real values, and how to go on, in two languages.

use farebox_core::call::Shortfall;
use farebox_core::code::{Code, Language};

use super::kind::Asked;
use crate::app::CallError;

/// Why a request was refused, and what helps. The refusal is kept under its key, so the next try needs another one.
pub(super) fn refused(
    code: Code,
    shortfall: &Shortfall,
    asked: &Asked,
    language: Language,
) -> String {
    let Shortfall { remaining_free, available, cost, free_quota, .. } = shortfall;
    let (total, units) = (free_quota.total, asked.units);
    let service = asked.service.as_ref().map_or("", |service| service.as_str());
    match (code, language) {
        (Code::InsufficientQuota, Language::Chinese) => format!(
            "本月免费额度 {total} 次剩余 {remaining_free} 次，本次请求需要 {units} 次；该服务不支持余额支付，请等待下月重置后换用新的 key 重试"
        ),
        (Code::InsufficientQuota, Language::English) => format!(
            "{remaining_free} of this month's {total} free units are left, this request takes {units}, and the service cannot be paid for; wait for the reset, then send it under a new key"
        ),
        (Code::UnknownService, language) => unknown_service(service, language),
        (Code::AccountFrozen, Language::Chinese) => {
            "账户已被冻结，余额和免费额度均不可用；请联系服务商解冻后换用新的 key 重试".to_owned()
        }
        (Code::AccountFrozen, Language::English) => {
            "the account is frozen: neither its money nor its free units can be used; have the operator thaw it, then send it under a new key"
                .to_owned()
        }
        (_, Language::Chinese) => {
            format!("可用余额: {available}，本次请求需要: {cost}；请充值后换用新的 key 重试")
        }
        (_, Language::English) => format!(
            "the available balance is {available}, this request takes {cost}; add money, then send it under a new key"
        ),
    }
}

fn unknown_service(service: &str, language: Language) -> String {
    match language {
        Language::Chinese => {
            format!("服务 {service} 既无价格也无免费额度；请更正服务名称，或联系服务商")
        }
        Language::English => format!(
            "{service} has neither a price nor a free quota; correct the service's name, or tell the operator"
        ),
    }
}

/// Why a deduct that was undone first is not charged.
pub(super) fn cancelled(language: Language) -> &'static str {
    match language {
        Language::Chinese => "该扣费在到达之前已被撤销；未扣费，此 key 今后也不会扣费",
        Language::English => {
            "a refund undid this deduct before it arrived; nothing was charged, and nothing will be under this key"
        }
    }
}

/// Why a commit that says something else than an earlier one is not decided: its key is the reservation.
pub(super) fn ended_otherwise(reservation: &str, language: Language) -> String {
    match language {
        Language::Chinese => format!("预留 {reservation} 已按另一内容提交"),
        Language::English => {
            format!("reservation {reservation} was committed already, with another content")
        }
    }
}

/// Why a request was not decided.
pub(super) fn failed(err: &CallError, language: Language) -> String {
    if language == Language::English {
        return match err {
            CallError::UnknownService { service } => unknown_service(service.as_str(), language),
            CallError::Store(_) => {
                "the database does not answer; send the same request again".to_owned()
            }
            other => other.to_string(),
        };
    }
    match err {
        CallError::UnknownService { service } => unknown_service(service.as_str(), language),
        CallError::KeyReused { key } => {
            format!("key {key:?} 已用于内容不同的请求；请为本次请求使用新的 key")
        }
        CallError::NotFound { what, id } => {
            let what = if *what == "reservation" { "预留" } else { "计费记录" };
            format!("没有 id 为 {id:?} 的{what}")
        }
        CallError::Busy => "账户正被其他请求或网关占用；未扣费，请稍后重发同一请求".to_owned(),
        CallError::Overloaded { count } => {
            format!("已有 {count} 个请求在等待；未扣费，请稍后重发同一请求")
        }
        CallError::Unfinished => "请求未处理完；请重发同一请求，不会重复扣费".to_owned(),
        CallError::Store(_) => "数据库没有应答；请稍后重发同一请求，不会重复扣费".to_owned(),
        // Their texts name fields and states, which have no Chinese names.
        CallError::Invalid(_) | CallError::Ended { .. } => err.to_string(),
    }
}
