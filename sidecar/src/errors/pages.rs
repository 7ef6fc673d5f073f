//! The pages' texts.

use farebox_core::code::Code;

use super::Mender::{Caller, Operator, Time};
use super::Repeat::{Safe, Useless};
use super::{Page, Text};

/// The page of a code. A new code does not compile without one.
pub(super) fn page(code: Code) -> Page {
    match code {
        Code::InvalidArgument => INVALID_ARGUMENT,
        Code::Unauthorized => UNAUTHORIZED,
        Code::Forbidden => FORBIDDEN,
        Code::TokenExpired => TOKEN_EXPIRED,
        Code::TokenInvalid => TOKEN_INVALID,
        Code::Misconfigured => MISCONFIGURED,
        Code::Unavailable => UNAVAILABLE,
        Code::NotFound => NOT_FOUND,
        Code::Conflict => CONFLICT,
        Code::Overloaded => OVERLOADED,
        Code::InsufficientBalance => INSUFFICIENT_BALANCE,
        Code::AccountFrozen => ACCOUNT_FROZEN,
        Code::InsufficientQuota => INSUFFICIENT_QUOTA,
        Code::UnknownService => UNKNOWN_SERVICE,
        Code::OrderNotFound => ORDER_NOT_FOUND,
        Code::PaymentMismatch => PAYMENT_MISMATCH,
        Code::OrderConflict => ORDER_CONFLICT,
        Code::AccountBusy => ACCOUNT_BUSY,
        Code::PaymentUnavailable => PAYMENT_UNAVAILABLE,
        Code::PaymentRefused => PAYMENT_REFUSED,
        Code::CurrencyRequired => CURRENCY_REQUIRED,
        Code::PaymentNotConfigured => PAYMENT_NOT_CONFIGURED,
    }
}

const INVALID_ARGUMENT: Page = Page {
    meaning: Text {
        english: "A field of the request breaks a rule; `field` names it.",
        chinese: "请求中的某个字段不符合规则，`field` 指出是哪一个。",
    },
    remedy: Text {
        english: "Correct it as `detail` says. Nothing was done.",
        chinese: "请按 `detail` 的说明修改；本次请求未产生任何影响。",
    },
    mender: Caller,
    repeat: Useless,
};

const UNAUTHORIZED: Page = Page {
    meaning: Text {
        english: "The call does not say who pays for it, or self-service was not called through the gateway.",
        chinese: "请求未说明由谁付费，或未经网关访问自助服务。",
    },
    remedy: Text {
        english: "Authenticate as the gateway's operator says; call self-service through the gateway.",
        chinese: "请按网关运营方的要求进行身份认证，并经网关访问自助服务。",
    },
    mender: Caller,
    repeat: Useless,
};

const FORBIDDEN: Page = Page {
    meaning: Text {
        english: "You are known, and may not do this: it is about another user, or needs another role.",
        chinese: "身份已确认，但无权进行此操作：它涉及其他用户，或需要其他角色。",
    },
    remedy: Text {
        english: "Leave `user_id` out, or name yourself; operators need a token with the role that `detail` names.",
        chinese: "请去掉 `user_id`，或填写您本人的用户；运营人员需使用具有 `detail` 所述角色的令牌。",
    },
    mender: Caller,
    repeat: Useless,
};

const TOKEN_EXPIRED: Page = Page {
    meaning: Text {
        english: "The gateway's signature of who calls is older than its short life.",
        chinese: "网关对调用者身份的签名已超过有效期。",
    },
    remedy: Text {
        english: "Send the request through the gateway again. If that does not help, the clocks of gateway and sidecar differ: tell the operator.",
        chinese: "请经网关重新发送。如仍失败，说明网关与计费服务的时钟不一致，请联系运营方。",
    },
    mender: Caller,
    repeat: Safe,
};

const TOKEN_INVALID: Page = Page {
    meaning: Text {
        english: "The token or signature is missing, malformed or not one that this listener accepts.",
        chinese: "令牌或签名缺失、格式错误，或不被该端口接受。",
    },
    remedy: Text {
        english: "Show a valid one: `Authorization: Bearer …`.",
        chinese: "请提供有效令牌：`Authorization: Bearer …`。",
    },
    mender: Caller,
    repeat: Useless,
};

const MISCONFIGURED: Page = Page {
    meaning: Text {
        english: "The rule of this route cannot be read, so nobody knows what the call costs. It was not forwarded and costs nothing.",
        chinese: "该路由的计费规则无法读取，费用无法确定；请求未被转发，也未收费。",
    },
    remedy: Text {
        english: "Envoy's log names the field; the rule is in the route's metadata.",
        chinese: "Envoy 日志会指出出错的字段；规则位于该路由的元数据中。",
    },
    mender: Operator,
    repeat: Useless,
};

const UNAVAILABLE: Page = Page {
    meaning: Text {
        english: "Billing or its database does not answer, or not in time.",
        chinese: "计费服务或其数据库没有及时应答。",
    },
    remedy: Text {
        english: "Send the same again after `Retry-After`. A metered call that got this was not forwarded; one with a key is charged once, however often it is sent.",
        chinese: "请在 `Retry-After` 之后重发同一请求。收到此错误的计费调用未被转发；带有 key 的请求无论重发多少次都只扣费一次。",
    },
    mender: Time,
    repeat: Safe,
};

const NOT_FOUND: Page = Page {
    meaning: Text {
        english: "Nothing stands at this address, or under this id.",
        chinese: "该地址或该编号下没有任何内容。",
    },
    remedy: Text {
        english: "Check the path and the id; what belongs to others is not found either.",
        chinese: "请检查路径和编号；属于他人的内容同样视为不存在。",
    },
    mender: Caller,
    repeat: Useless,
};

const CONFLICT: Page = Page {
    meaning: Text {
        english: "The key was used for a request with another content, or what the request is about has ended.",
        chinese: "该 key 已用于内容不同的请求，或请求所涉及的对象已结束。",
    },
    remedy: Text {
        english: "Take a key of its own for each request, and repeat requests unchanged.",
        chinese: "每个请求请使用各自的 key；重发时内容须保持不变。",
    },
    mender: Caller,
    repeat: Useless,
};

const OVERLOADED: Page = Page {
    meaning: Text {
        english: "A bound of the gateway or of billing is reached. Nothing was charged.",
        chinese: "网关或计费服务已达到容量上限；未产生任何费用。",
    },
    remedy: Text {
        english: "Send the same again after `Retry-After`. With status 429 too many of your own orders wait to be paid, or an operator asks too often.",
        chinese: "请在 `Retry-After` 之后重发。状态为 429 时表示您有过多订单等待支付，或运营请求过于频繁。",
    },
    mender: Time,
    repeat: Safe,
};

const INSUFFICIENT_BALANCE: Page = Page {
    meaning: Text {
        english: "The free units are used up or too few, and the balance does not pay for the rest of the call. It was not forwarded and costs nothing.",
        chinese: "免费额度已用完或不足，余额不够支付其余部分；请求未被转发，也未收费。",
    },
    remedy: Text {
        english: "Recharge; the next call works within a second. `detail` says what is available and what the call costs.",
        chinese: "请充值，一秒内即可继续调用。`detail` 说明可用余额和本次费用。",
    },
    mender: Caller,
    repeat: Safe,
};

const ACCOUNT_FROZEN: Page = Page {
    meaning: Text {
        english: "An operator froze the account: neither its money nor its free units can be used, however much there is. The call was not forwarded and costs nothing; money may still be paid in.",
        chinese: "运营方已冻结该账户：无论还有多少，余额和免费额度均不可用。请求未被转发，也未收费；仍可充值。",
    },
    remedy: Text {
        english: "Ask the operator why, and to thaw it (`farebox account thaw`); calls work again within a second.",
        chinese: "请向运营方了解原因并申请解冻（`farebox account thaw`）；解冻后一秒内即可恢复调用。",
    },
    mender: Operator,
    repeat: Useless,
};

const INSUFFICIENT_QUOTA: Page = Page {
    meaning: Text {
        english: "This month's free units are used up or too few, and the service cannot be paid for.",
        chinese: "本月免费额度已用完或不足，且该服务不支持付费。",
    },
    remedy: Text {
        english: "Wait for the month to end: `Retry-After` and `RateLimit` say when.",
        chinese: "请等待下月重置，`Retry-After` 与 `RateLimit` 说明时间。",
    },
    mender: Time,
    repeat: Safe,
};

const UNKNOWN_SERVICE: Page = Page {
    meaning: Text {
        english: "The route has no rule, or its service has neither a price nor a free quota. Nothing is free by mistake, so the call is refused.",
        chinese: "该路由没有计费规则，或其服务既无价格也无免费额度。为避免误判为免费，请求被拒绝。",
    },
    remedy: Text {
        english: "Give the route a rule and the service a price or a free quota. `farebox lint --envoy` finds such routes; `farebox explain-route --envoy` tells which rule a call gets.",
        chinese: "请为路由配置规则，并为服务设置价格或免费额度。`farebox lint --envoy` 可找出此类路由，`farebox explain-route --envoy` 可说明某次调用适用哪条规则。",
    },
    mender: Operator,
    repeat: Useless,
};

const ORDER_NOT_FOUND: Page = Page {
    meaning: Text {
        english: "There is no such recharge order of yours.",
        chinese: "您没有这个充值订单。",
    },
    remedy: Text {
        english: "Check the id; `GET /api/v1/billing/orders` lists yours.",
        chinese: "请检查订单号；`GET /api/v1/billing/orders` 列出您的订单。",
    },
    mender: Caller,
    repeat: Useless,
};

const PAYMENT_MISMATCH: Page = Page {
    meaning: Text {
        english: "News of a payment does not fit its order: another amount, currency, payment or user. It was kept for people to look at; nothing was credited.",
        chinese: "支付通知与订单不符：金额、币种、支付单或用户不同。已保留待人工核对，未入账。",
    },
    remedy: Text {
        english: "Compare both sides; the payment service must not send it again unchanged.",
        chinese: "请双方核对；支付服务不应原样重发。",
    },
    mender: Operator,
    repeat: Useless,
};

const ORDER_CONFLICT: Page = Page {
    meaning: Text {
        english: "The `Idempotency-Key` was used for an order with another content.",
        chinese: "该 `Idempotency-Key` 已用于内容不同的订单。",
    },
    remedy: Text {
        english: "Take a key per order; repeat an order unchanged to get its first answer.",
        chinese: "每个订单使用各自的 key；原样重发将得到首次的应答。",
    },
    mender: Caller,
    repeat: Useless,
};

const ACCOUNT_BUSY: Page = Page {
    meaning: Text {
        english: "Others hold the account, or units that gateways hold unused did not come back in time. Nothing was charged.",
        chinese: "账户正被其他请求占用，或网关持有的未用额度未能及时归还；未产生任何费用。",
    },
    remedy: Text { english: "Send the same again.", chinese: "请重发同一请求。" },
    mender: Time,
    repeat: Safe,
};

const PAYMENT_UNAVAILABLE: Page = Page {
    meaning: Text {
        english: "The payment service is away or too slow. The order is kept.",
        chinese: "支付服务不可用或过慢；订单已保留。",
    },
    remedy: Text {
        english: "Send the same again, with the same `Idempotency-Key`: it asks for the payment of the same order.",
        chinese: "请用同一 `Idempotency-Key` 重发：将为同一订单再次请求支付。",
    },
    mender: Time,
    repeat: Safe,
};

const PAYMENT_REFUSED: Page = Page {
    meaning: Text {
        english: "The payment service does not want this payment; the order has failed.",
        chinese: "支付服务拒绝了这笔支付，订单已失败。",
    },
    remedy: Text {
        english: "Make another order, with another amount or way to pay.",
        chinese: "请更换金额或支付方式，重新下单。",
    },
    mender: Caller,
    repeat: Useless,
};

const CURRENCY_REQUIRED: Page = Page {
    meaning: Text {
        english: "The currency is missing, or not the one that accounts are kept in.",
        chinese: "缺少币种，或不是账户所用的币种。",
    },
    remedy: Text {
        english: "Send the currency that `detail` names.",
        chinese: "请使用 `detail` 所示的币种。",
    },
    mender: Caller,
    repeat: Useless,
};

const PAYMENT_NOT_CONFIGURED: Page = Page {
    meaning: Text {
        english: "No payment service is configured, so nobody can recharge.",
        chinese: "未配置支付服务，无法充值。",
    },
    remedy: Text {
        english: "Set `payment_service` in farebox.yaml.",
        chinese: "请在 farebox.yaml 中设置 `payment_service`。",
    },
    mender: Operator,
    repeat: Useless,
};
