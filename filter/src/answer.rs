//! What a refused caller is told: a problem document with a number, a reason with real values, and when to come back.

use farebox_core::code::{Code, Language};
use farebox_core::money::Nanos;
use farebox_core::problem::{CONTENT_TYPE, Problem};

use crate::identity::IdentityError;
use crate::record::Record;
use crate::stats::Stat;

/// A complete reply, sent instead of forwarding the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u32,
    /// Headers besides those that Envoy adds.
    pub headers: Vec<(&'static str, String)>,
    /// The body; for gRPC callers the `grpc-message`.
    pub body: String,
    /// gRPC status for gRPC callers, to whom Envoy sends a trailers-only reply.
    pub grpc_status: Option<u32>,
}

/// How a caller is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// In which language.
    pub language: Language,
    /// Whether it speaks gRPC.
    pub is_grpc: bool,
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Nobody can be charged.
    Identity(IdentityError),
    /// No rule covers the route.
    NoRule,
    /// The route's metadata cannot be read.
    Misconfigured,
    /// The sidecar did not answer in time, and the route does not allow calls without it.
    Unreachable,
    /// Too many calls are waiting in this process.
    Overloaded,
    /// The account's units are held by a gateway that has not given them back in time.
    Held,
    /// The sidecar refused.
    Funds(Funds),
}

/// The sidecar's refusal, as the caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Funds {
    /// 190102, 190104, 190202 or 190205.
    pub code: Code,
    /// The money that the account can still spend here.
    pub available: Nanos,
    /// The free units that the account can still use here.
    pub free_units: u64,
    /// Price per unit; zero when the service has none.
    pub price: Nanos,
    /// Units that the call takes.
    pub units: u64,
    /// Free units per month.
    pub quota_total: u64,
    /// Seconds until the month ends.
    pub quota_resets_in_s: u64,
}

impl Funds {
    /// What a record remembers of a refusal.
    pub fn of(record: &Record, units: u64, now: u64) -> Self {
        let code = u32::try_from(record.refused_code).ok().and_then(Code::from_number);
        let left_here = if record.is_live(now) { record.remaining() } else { 0 };
        let free_here = record.free_left.min(left_here);
        let own_money = record.price.checked_mul(left_here.saturating_sub(free_here));
        let milliseconds = record.quota_resets_ms.saturating_sub(now);
        Self {
            code: code.unwrap_or(Code::InsufficientBalance),
            // What is left of this gateway's own lease is the account's too.
            available: own_money
                .and_then(|own| own.checked_add(record.refused_available))
                .unwrap_or(Nanos::MAX),
            free_units: record.refused_free.saturating_add(free_here),
            price: record.price,
            units,
            quota_total: record.quota_total,
            quota_resets_in_s: milliseconds.div_ceil(1_000),
        }
    }

    fn detail(&self, language: Language) -> String {
        let Self { available, free_units, price, units, quota_total, .. } = self;
        let to_pay = units.saturating_sub(*free_units);
        let cost = price.checked_mul(to_pay).unwrap_or(Nanos::MAX);
        match (self.code, language) {
            (Code::InsufficientQuota, Language::Chinese) => format!(
                "本月免费额度 {quota_total} 次剩余 {free_units} 次，本次调用需要 {units} 次；该服务不支持余额支付，请等待下月重置"
            ),
            (Code::InsufficientQuota, Language::English) => format!(
                "{free_units} of this month's {quota_total} free units are left, this call takes {units}, and the service cannot be paid for; wait for the reset"
            ),
            (Code::UnknownService, Language::Chinese) => {
                "该服务既无价格也无免费额度；请联系服务商".to_owned()
            }
            (Code::UnknownService, Language::English) => {
                "the service has neither a price nor a free quota; tell the operator".to_owned()
            }
            (Code::AccountFrozen, Language::Chinese) => {
                "账户已被冻结，余额和免费额度均不可用；请联系服务商".to_owned()
            }
            (Code::AccountFrozen, Language::English) => {
                "the account is frozen: neither its money nor its free units can be used; ask the operator to thaw it".to_owned()
            }
            (_, Language::Chinese) => {
                format!("可用余额: {available}，本次调用需要: {cost}；充值后立即可用")
            }
            (_, Language::English) => format!(
                "the available balance is {available}, this call costs {cost}; add money and it works at once"
            ),
        }
    }
}

impl Reason {
    /// The statistic that counts such refusals.
    pub fn stat(&self) -> Stat {
        match self {
            Self::Identity(_) => Stat::RefusedIdentity,
            Self::NoRule | Self::Misconfigured => Stat::RefusedConfig,
            Self::Unreachable | Self::Overloaded | Self::Held => Stat::RefusedUnreachable,
            Self::Funds(funds) => match funds.code {
                Code::InsufficientQuota => Stat::RefusedQuota,
                Code::UnknownService => Stat::RefusedService,
                Code::AccountFrozen => Stat::RefusedFrozen,
                // The balance's own code, and whatever else a newer sidecar may refuse for.
                _ => Stat::RefusedBalance,
            },
        }
    }

    /// The number that the caller gets.
    pub fn code(&self) -> Code {
        match self {
            Self::Identity(IdentityError::Missing) => Code::Unauthorized,
            Self::Identity(IdentityError::Doubled(_) | IdentityError::Invalid(_)) => {
                Code::InvalidArgument
            }
            Self::NoRule => Code::UnknownService,
            Self::Misconfigured => Code::Misconfigured,
            Self::Unreachable | Self::Held => Code::Unavailable,
            Self::Overloaded => Code::Overloaded,
            Self::Funds(funds) => funds.code,
        }
    }

    fn detail(&self, language: Language) -> String {
        let say = |chinese: &str, english: &str| match language {
            Language::Chinese => chinese.to_owned(),
            Language::English => english.to_owned(),
        };
        match self {
            Self::Identity(IdentityError::Missing) => {
                say("请求未携带可计费的身份", "the call names nobody to charge; authenticate first")
            }
            Self::Identity(IdentityError::Doubled(header)) => say(
                &format!("请求头 {header} 出现多次；只能出现一次"),
                &format!("the header {header} occurs more than once; send it once"),
            ),
            Self::Identity(IdentityError::Invalid(problem)) => say(
                &format!("身份无效：{problem}"),
                &format!("the identity cannot be used: {problem}"),
            ),
            Self::NoRule => say(
                "该路由没有计费规则；请联系服务商",
                "no metering rule covers this route; tell the operator",
            ),
            Self::Misconfigured => say(
                "该路由的计费规则无法读取；请联系服务商",
                "the metering rule of this route cannot be read; tell the operator",
            ),
            Self::Unreachable => {
                say("计费服务无应答；请稍后重试", "billing does not answer; repeat the call later")
            }
            Self::Overloaded => say(
                "网关等待的请求过多；请稍后重试",
                "too many calls are waiting at the gateway; repeat the call later",
            ),
            Self::Held => say(
                "账户余额正被其他调用或网关占用；请稍后重试",
                "the account's units are held by other calls or gateways; repeat the call in a moment",
            ),
            Self::Funds(funds) => funds.detail(language),
        }
    }

    /// Seconds after which a repetition makes sense (RFC 9110 section 10.2.3); none where only a change helps.
    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Unreachable | Self::Overloaded | Self::Held => Some(1),
            Self::Funds(funds) if funds.code == Code::InsufficientQuota => {
                Some(funds.quota_resets_in_s.max(1))
            }
            Self::Funds(_) | Self::Identity(_) | Self::NoRule | Self::Misconfigured => None,
        }
    }

    /// The reply for a caller.
    pub fn answer(&self, caller: Caller) -> Answer {
        let code = self.code();
        let detail = self.detail(caller.language);
        let mut headers = vec![
            ("content-type", CONTENT_TYPE.to_owned()),
            ("content-language", caller.language.tag().to_owned()),
            ("cache-control", "no-store".to_owned()),
        ];
        if let Some(seconds) = self.retry_after_s() {
            headers.push(("retry-after", seconds.to_string()));
        }
        if let Self::Funds(funds) = self
            && 0 < funds.quota_total
            && funds.code != Code::AccountFrozen
        {
            // Draft ietf-httpapi-ratelimit-headers: the month's free quota, in units.
            headers.push((
                "ratelimit-policy",
                format!("\"free-quota\";q={};qu=\"requests\"", funds.quota_total),
            ));
            headers.push((
                "ratelimit",
                format!("\"free-quota\";r={};t={}", funds.free_units, funds.quota_resets_in_s),
            ));
        }
        if caller.is_grpc {
            headers.retain(|(name, _)| *name != "content-type");
            let message = format!("{} {}: {detail}", code.number(), code.title(caller.language));
            let grpc_status = Some(code.grpc_status());
            return Answer {
                status: u32::from(code.http_status()),
                headers,
                body: message,
                grpc_status,
            };
        }
        let body = Problem::new(code, caller.language, detail).to_json();
        Answer { status: u32::from(code.http_status()), headers, body, grpc_status: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const ENGLISH: Caller = Caller { language: Language::English, is_grpc: false };

    fn funds(code: Code) -> Reason {
        Reason::Funds(Funds {
            code,
            available: Nanos::new(1_500_000_000),
            price: Nanos::new(2_000_000_000),
            units: 3,
            free_units: 1,
            quota_total: 1_000,
            quota_resets_in_s: 86_400,
        })
    }

    fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
        answer.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn an_empty_balance_is_402_with_what_there_is_and_what_it_costs() {
        let answer = funds(Code::InsufficientBalance).answer(ENGLISH);
        assert_eq!(answer.status, 402);
        let problem: Problem = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(problem.code, 190_102);
        assert_eq!(
            problem.detail,
            "the available balance is 1.5, this call costs 4; add money and it works at once"
        );
        assert_eq!(header(&answer, "retry-after"), None, "waiting does not help");
    }

    #[test]
    fn a_used_up_quota_without_a_price_is_429_until_the_month_ends() {
        let answer = funds(Code::InsufficientQuota).answer(ENGLISH);
        assert_eq!((answer.status, header(&answer, "retry-after")), (429, Some("86400")));
        assert_eq!(header(&answer, "ratelimit"), Some("\"free-quota\";r=1;t=86400"));
        assert_eq!(
            header(&answer, "ratelimit-policy"),
            Some("\"free-quota\";q=1000;qu=\"requests\"")
        );
    }

    #[test]
    fn a_frozen_account_is_403_whatever_it_has() {
        let answer = funds(Code::AccountFrozen).answer(ENGLISH);
        let problem: Problem = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, problem.code), (403, 190_104));
        assert!(problem.detail.starts_with("the account is frozen"), "{}", problem.detail);
        for name in ["retry-after", "ratelimit", "ratelimit-policy"] {
            assert_eq!(
                header(&answer, name),
                None,
                "no units are left to be used, and time mends nothing"
            );
        }
        let grpc = funds(Code::AccountFrozen).answer(Caller { is_grpc: true, ..ENGLISH });
        assert_eq!(grpc.grpc_status, Some(7), "PERMISSION_DENIED");
        let chinese = Caller { language: Language::Chinese, is_grpc: false };
        assert!(funds(Code::AccountFrozen).answer(chinese).body.contains("账户已被冻结"));
    }

    #[test]
    fn a_code_of_a_newer_sidecar_is_refused_for_money() {
        let record = Record { refused_code: 199_999, refused_need: 1, ..Record::default() };
        assert_eq!(Funds::of(&record, 1, 0).code, Code::InsufficientBalance);
        let frozen = Record { refused_code: 190_104, ..record };
        assert_eq!(Funds::of(&frozen, 1, 0).code, Code::AccountFrozen);
    }

    #[test]
    fn the_text_is_in_the_callers_language() {
        let chinese = Caller { language: Language::Chinese, is_grpc: false };
        let answer = funds(Code::InsufficientBalance).answer(chinese);
        assert_eq!(header(&answer, "content-language"), Some("zh-CN"));
        assert!(answer.body.contains("可用余额: 1.5"), "{}", answer.body);
    }

    #[test]
    fn grpc_callers_get_a_status_and_a_message_with_the_number() {
        let answer = funds(Code::InsufficientBalance).answer(Caller { is_grpc: true, ..ENGLISH });
        assert_eq!(answer.grpc_status, Some(8));
        assert!(
            answer.body.starts_with("190102 Insufficient balance: the available balance is 1.5"),
            "{}",
            answer.body
        );
    }

    #[test]
    fn statuses_tell_whose_turn_it_is() {
        let status = |reason: Reason| reason.answer(ENGLISH).status;
        assert_eq!(status(Reason::Identity(IdentityError::Missing)), 401);
        assert_eq!(status(Reason::Identity(IdentityError::Doubled("x-user-id".into()))), 400);
        assert_eq!(status(Reason::NoRule), 403);
        assert_eq!(status(Reason::Misconfigured), 500);
        for reason in [Reason::Unreachable, Reason::Overloaded, Reason::Held] {
            let answer = reason.answer(ENGLISH);
            assert_eq!((answer.status, header(&answer, "retry-after")), (503, Some("1")));
        }
    }
}
