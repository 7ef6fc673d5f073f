//! Error numbers, as the predecessor's users know them: `SSMMEE`, 19 for billing, 10 for what all services share.

/// A language of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// `zh-CN`, also the default.
    Chinese,
    /// `en-US`.
    English,
}

impl Language {
    /// Picks the language that an `Accept-Language` header ranks first (RFC 9110 section 12.5.4).
    ///
    /// `zh…` is Chinese, `en…` is English, anything else and no header at all is Chinese.
    pub fn from_accept_language(header: &str) -> Self {
        let mut best = (0_u32, Self::Chinese);
        for item in header.split(',') {
            let mut parts = item.split(';');
            let tag = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
            let language = match tag.split('-').next() {
                Some("zh") => Self::Chinese,
                Some("en") => Self::English,
                _ => continue,
            };
            let weight =
                parts.find_map(|part| part.trim().strip_prefix("q=")).map_or(1_000, thousandths);
            if best.0 < weight {
                best = (weight, language);
            }
        }
        best.1
    }

    /// The BCP 47 tag for a `Content-Language` header.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Chinese => "zh-CN",
            Self::English => "en-US",
        }
    }
}

/// A quality value such as `0.8` in thousandths; 0 when it is malformed.
fn thousandths(quality: &str) -> u32 {
    let (whole, fraction) = quality.split_once('.').unwrap_or((quality, ""));
    let digits = format!("{whole}{fraction:0<3}");
    if 3 < fraction.len() { 0 } else { digits.parse().unwrap_or(0).min(1_000) }
}

/// Why a call or a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// A request that breaks a rule of its format.
    InvalidArgument,
    /// No identity where one is needed.
    Unauthorized,
    /// A token whose time is over.
    TokenExpired,
    /// A gateway whose token is missing or wrong.
    TokenInvalid,
    /// The rule of the route cannot be read: an operator's mistake, never the caller's.
    Misconfigured,
    /// The sidecar or its database is away.
    Unavailable,
    /// A bound of this process is reached.
    Overloaded,
    /// Nothing stands at this address.
    NotFound,
    /// The same key was used for another body.
    Conflict,
    /// Money would help.
    InsufficientBalance,
    /// Only time would help: the free quota is used up and the service has no price.
    InsufficientQuota,
    /// Neither priced nor free: an operator's mistake, refused because nothing is free by mistake.
    UnknownService,
    /// The account is busy: its lock, or units that gateways hold unused, did not come in time. Nothing was charged.
    AccountBusy,
    /// An operator froze the account: nothing of it may be used, neither money nor free units.
    AccountFrozen,
    /// A known caller who may not do this.
    Forbidden,
    /// No such recharge order, or somebody else's.
    OrderNotFound,
    /// News of a payment that does not fit its order: kept for people to look at, never credited.
    PaymentMismatch,
    /// The key names another order already.
    OrderConflict,
    /// The payment service is away or too slow.
    PaymentUnavailable,
    /// The payment service does not want this payment.
    PaymentRefused,
    /// No currency, or one that accounts are not kept in.
    CurrencyRequired,
    /// The operator has not set a payment service up.
    PaymentNotConfigured,
}

/// What a [`Code`] says to machines and people.
struct Facts {
    number: u32,
    http_status: u16,
    grpc_status: u32,
    chinese: &'static str,
    english: &'static str,
}

impl Code {
    /// Every code, for tables and tests.
    pub const ALL: [Self; 22] = [
        Self::InvalidArgument,
        Self::Unauthorized,
        Self::TokenExpired,
        Self::TokenInvalid,
        Self::Misconfigured,
        Self::Unavailable,
        Self::Overloaded,
        Self::NotFound,
        Self::Conflict,
        Self::InsufficientBalance,
        Self::InsufficientQuota,
        Self::UnknownService,
        Self::AccountBusy,
        Self::AccountFrozen,
        Self::Forbidden,
        Self::OrderNotFound,
        Self::PaymentMismatch,
        Self::OrderConflict,
        Self::PaymentUnavailable,
        Self::PaymentRefused,
        Self::CurrencyRequired,
        Self::PaymentNotConfigured,
    ];

    /// gRPC numbers are those of `google.rpc.Code`; Envoy sends them as a trailers-only reply.
    fn facts(self) -> Facts {
        let facts = |number, http_status, grpc_status, chinese, english| Facts {
            number,
            http_status,
            grpc_status,
            chinese,
            english,
        };
        match self {
            Self::InvalidArgument => facts(100_001, 400, 3, "参数无效", "Invalid argument"),
            Self::Unauthorized => facts(100_101, 401, 16, "未提供身份", "Identity required"),
            Self::TokenExpired => facts(100_103, 401, 16, "令牌已过期", "Token expired"),
            Self::TokenInvalid => facts(100_104, 401, 16, "令牌无效", "Token invalid"),
            Self::Misconfigured => {
                facts(100_201, 500, 13, "网关计费配置错误", "Gateway metering is misconfigured")
            }
            Self::Unavailable => {
                facts(100_202, 503, 14, "计费服务暂不可用", "Billing service unavailable")
            }
            Self::Overloaded => {
                facts(100_303, 503, 8, "计费服务繁忙", "Billing service overloaded")
            }
            Self::NotFound => facts(100_301, 404, 5, "资源不存在", "Not found"),
            Self::Conflict => facts(100_302, 409, 6, "请求冲突", "Conflicting request"),
            Self::InsufficientBalance => facts(190_102, 402, 8, "余额不足", "Insufficient balance"),
            Self::InsufficientQuota => {
                facts(190_202, 429, 8, "免费额度已用完", "Free quota used up")
            }
            Self::UnknownService => {
                facts(190_205, 403, 7, "未知的服务名称", "Unknown service name")
            }
            Self::AccountBusy => {
                facts(190_402, 503, 14, "账户繁忙，请稍后重试", "The account is busy")
            }
            Self::AccountFrozen => facts(190_104, 403, 7, "账户已冻结", "Account frozen"),
            Self::Forbidden => facts(100_102, 403, 7, "无权操作", "Forbidden"),
            Self::OrderNotFound => {
                facts(190_301, 404, 5, "充值订单不存在", "Recharge order not found")
            }
            Self::PaymentMismatch => facts(
                190_304,
                422,
                9,
                "充值失败：支付与订单不符",
                "Recharge failed: the payment does not fit the order",
            ),
            Self::OrderConflict => {
                facts(190_305, 409, 6, "充值订单已存在", "Recharge order already exists")
            }
            Self::PaymentUnavailable => {
                facts(190_501, 503, 14, "支付服务不可用", "Payment service unavailable")
            }
            Self::PaymentRefused => {
                facts(190_502, 502, 9, "创建支付订单失败", "Payment was not created")
            }
            Self::CurrencyRequired => {
                facts(190_503, 400, 3, "币种必填或不受支持", "Currency missing or not supported")
            }
            Self::PaymentNotConfigured => {
                facts(190_707, 503, 14, "支付服务未配置", "Payment service not configured")
            }
        }
    }

    /// The code with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }

    /// The six-digit number, as in the predecessor's `errorCode`.
    pub fn number(self) -> u32 {
        self.facts().number
    }

    /// The HTTP status of a reply with this code.
    pub fn http_status(self) -> u16 {
        self.facts().http_status
    }

    /// The gRPC status of a reply with this code.
    pub fn grpc_status(self) -> u32 {
        self.facts().grpc_status
    }

    /// The short text, the same for every occurrence (RFC 9457 section 3.1.3).
    pub fn title(self, language: Language) -> &'static str {
        match language {
            Language::Chinese => self.facts().chinese,
            Language::English => self.facts().english,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_language_is_the_one_the_caller_ranks_first() {
        use Language::{Chinese, English};
        for (header, expected) in [
            ("", Chinese),
            ("fr", Chinese),
            ("en", English),
            ("en-GB,zh;q=0.9", English),
            ("en;q=0.5, zh-TW;q=0.8", Chinese),
            ("fr, en;q=0.1", English),
            ("en;q=nonsense, zh;q=0.001", Chinese),
        ] {
            assert_eq!(Language::from_accept_language(header), expected, "{header:?}");
        }
    }

    #[test]
    fn numbers_are_unique_and_found_again() {
        for code in Code::ALL {
            assert_eq!(Code::from_number(code.number()), Some(code));
        }
    }
}
