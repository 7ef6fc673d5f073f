//! A page for each error number: what it means, who can mend it, whether the same request may be sent again.
//!
//! Numbers, statuses and titles are those of [`Code`], which the filter shares. `farebox errors` prints the pages;
//! `docs/errors.md` is what [`markdown`] makes of them.

use std::fmt::Write as _;

use farebox_core::code::{Code, Language};

mod pages;

/// Who can make the same request succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mender {
    /// Whoever sent it.
    Caller,
    /// Whoever runs the gateway.
    Operator,
    /// Nobody has to do anything: it passes.
    Time,
}

/// Whether the same request may be sent again as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It would be refused again.
    Useless,
    /// At once, or when `Retry-After` says so; under its key it is done once.
    Safe,
}

/// A text in both languages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text {
    pub(crate) english: &'static str,
    pub(crate) chinese: &'static str,
}

/// What is to be said about a number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    /// What happened.
    pub(crate) meaning: Text,
    /// How to go on.
    pub(crate) remedy: Text,
    pub(crate) mender: Mender,
    pub(crate) repeat: Repeat,
}

impl Text {
    fn of(self, language: Language) -> &'static str {
        match language {
            Language::Chinese => self.chinese,
            Language::English => self.english,
        }
    }
}

impl Mender {
    fn text(self) -> Text {
        let text = |english, chinese| Text { english, chinese };
        match self {
            Self::Caller => text("the caller", "调用者"),
            Self::Operator => text("the operator", "运营方"),
            Self::Time => text("nobody: it passes", "无需处理：会自行恢复"),
        }
    }
}

impl Repeat {
    fn text(self) -> Text {
        let text = |english, chinese| Text { english, chinese };
        match self {
            Self::Useless => text("refused again", "仍会被拒绝"),
            Self::Safe => text("safe, under the same key", "安全（使用同一 key）"),
        }
    }
}

const MENDED_BY: Text = Text { english: "mended by", chinese: "由谁处理" };
const SENT_AGAIN: Text = Text { english: "sending it again", chinese: "重发" };

/// Numbers of billing-service that nobody gets any more, with their names, and what is answered in their place.
pub(crate) const RETIRED: [(u32, &str, &str); 24] = [
    (100_002, "missing field", "100001 with `field`"),
    (100_003, "format", "100001 with `field`"),
    (100_004, "range", "100001 with `field`"),
    (100_203, "timeout", "100202"),
    (100_204, "database", "100202"),
    (100_205, "external service", "100202, 190501"),
    (190_101, "BalanceNotFound", "an account that does not exist yet has nothing: 190102"),
    (190_103, "BalanceUpdateFailed", "100202"),
    (190_201, "QuotaNotFound", "quotas are made when they are needed"),
    (190_203, "QuotaCreateFailed", "100202"),
    (190_204, "QuotaUpdateFailed", "100202"),
    (190_302, "RechargeOrderCreateFailed", "100202"),
    (190_303, "RechargeOrderUpdateFailed", "100202"),
    (190_401, "DeductQuotaFailed", "190102, 190202 or 100202: why it failed"),
    (190_601, "GetAllUserIDsFailed", "100202"),
    (190_602, "GetStatsFailed", "100202"),
    (190_701, "RechargeOrderGetFailed", "100202"),
    (190_703, "RechargeOrderUpdateFailed", "100202"),
    (190_704, "UserBalanceCreateFailed", "100202"),
    (190_705, "UserBalanceGetFailed", "100202"),
    (190_706, "UserBalanceUpdateFailed", "100202"),
    (190_708, "PaymentServiceDialFailed", "190501"),
    (190_709, "InvalidUserID", "100001 with `field`"),
    (100_401, "operation not allowed", "100102"),
];

/// The name of a code, such as `InsufficientBalance`.
pub(crate) fn name(code: Code) -> String {
    format!("{code:?}")
}

/// The page of a code, for a terminal.
pub(crate) fn page(code: Code, language: Language) -> String {
    let Page { meaning, remedy, mender, repeat } = pages::page(code);
    format!(
        "{} {}: {}\nHTTP {}, gRPC {}\n\n{}\n{}\n\n{}: {}\n{}: {}\n",
        code.number(),
        name(code),
        code.title(language),
        code.http_status(),
        code.grpc_status(),
        meaning.of(language),
        remedy.of(language),
        MENDED_BY.of(language),
        mender.text().of(language),
        SENT_AGAIN.of(language),
        repeat.text().of(language),
    )
}

/// Every code, by number.
pub(crate) fn sorted() -> Vec<Code> {
    let mut codes = Code::ALL.to_vec();
    codes.sort_by_key(|code| code.number());
    codes
}

/// All pages as a document.
pub(crate) fn markdown() -> String {
    let mut text = String::from(INTRODUCTION);
    for code in sorted() {
        let _ = writeln!(
            text,
            "| [{number}](#{number}) | {} | {} | {} |",
            code.http_status(),
            code.title(Language::English),
            code.title(Language::Chinese),
            number = code.number(),
        );
    }
    for code in sorted() {
        let Page { meaning, remedy, mender, repeat } = pages::page(code);
        let _ = write!(
            text,
            "\n## {}\n\n`{}`, HTTP {}, gRPC {}. Mended by: {}. Sending it again: {}.\n\n**{}.** {} {}\n\n**{}。** {}{}\n",
            code.number(),
            name(code),
            code.http_status(),
            code.grpc_status(),
            mender.text().english,
            repeat.text().english,
            code.title(Language::English),
            meaning.english,
            remedy.english,
            code.title(Language::Chinese),
            meaning.chinese,
            remedy.chinese,
        );
    }
    text.push_str(RETIREMENT);
    for (number, name, instead) in RETIRED {
        let _ = writeln!(text, "| {number} | {name} | {instead} |");
    }
    text
}

const RETIREMENT: &str = "
## Numbers of billing-service that do not occur

What the database could not do is one number, 100202: nothing is known of the outcome but that the same request may be sent again.

| number | was | in its place |
|---|---|---|
";

const INTRODUCTION: &str = "# Error numbers

<!-- Made by `farebox errors --markdown`; change `sidecar/src/errors/pages.rs` or `sidecar/core/src/code.rs`. -->

Every refusal of gateway and sidecar is `application/problem+json` (RFC 9457): `type` (`urn:farebox:error:NUMBER`), `title`, `status`, `detail` with the values of this time and how to go on, `code` (the number), and `field` where one field is at fault. `title` is Chinese or English, by `Accept-Language`; Chinese without it, and so is `detail` where a call is refused at the gateway, by check or by deduct; the details of other answers are English. gRPC callers get the gRPC status, with the detail as its message.
Numbers are `SSMMEE`: 19 is billing, 10 what all services share. Numbers of billing-service keep their meaning.

| number | HTTP | English | 中文 |
|---|---|---|---|
";

#[cfg(test)]
mod tests;
