//! What gateways wrote down of the calls that passed them: Envoy's access log, with what the filter decided.
//!
//! It is a witness for calls that clients got no answer to. A killed gateway takes the last lines along.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use farebox_core::money::Nanos;
use serde::Serialize;

use crate::plan::GATEWAYS;
use crate::site::{Site, gateway_name};

/// A line of the log: the call's number, how often it was sent upstream, how it ended, and what the filter charged for it.
/// It begins on a new line, whatever a killed gateway has left before it.
pub(crate) const FORMAT: &str = "\n%REQ(X-CALL-ID)% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %RESPONSE_CODE% %RESPONSE_FLAGS% \
    %RESPONSE_CODE_DETAILS% %RESP(X-FAREBOX-CHARGE)%\n";

/// A call as its gateway saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Pass {
    /// The filter let it through: it was sent upstream, or its answer tells its price.
    pub(crate) is_admitted: bool,
    /// The upstream's answer passed whole and was no fault of the upstream's: what `charge_on: success` charges for.
    pub(crate) ended_well: bool,
    /// What the filter charged, if an answer began.
    pub(crate) told: Option<Nanos>,
}

/// The passes of all gateways, by the call's number. The gateways must have ended in order for this to be everything.
pub(crate) fn read(site: &Site) -> Result<BTreeMap<u64, Pass>> {
    let mut passes = BTreeMap::new();
    for gateway in (0..GATEWAYS).map(gateway_name) {
        let file = site.folder().join(format!("{gateway}.access.log"));
        let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        // A killed gateway may leave half a line.
        passes.extend(String::from_utf8_lossy(&text).lines().filter_map(parse));
    }
    Ok(passes)
}

fn parse(line: &str) -> Option<(u64, Pass)> {
    let words: Vec<&str> = line.split(' ').collect();
    let [call, attempts, status, flags, details, charge] = words[..].try_into().ok()?;
    let status: u16 = status.parse().ok()?;
    let told: Option<Nanos> = charge.parse().ok();
    let is_sound = (100..500).contains(&status) && flags == "-" && details == "via_upstream";
    let pass = Pass {
        is_admitted: attempts.parse::<u64>().is_ok_and(|attempts| 0 < attempts) || told.is_some(),
        ended_well: is_sound,
        told,
    };
    Some((call.parse().ok()?, pass))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_the_filter_decided() {
        let pass = |is_admitted, ended_well, told: Option<&str>| Pass {
            is_admitted,
            ended_well,
            told: told.map(|told| told.parse().unwrap()),
        };
        for (line, expected) in [
            ("7 1 200 - via_upstream 0.001", Some((7, pass(true, true, Some("0.001"))))),
            ("7 1 503 - via_upstream 0.001", Some((7, pass(true, false, Some("0.001"))))),
            ("7 1 0 DC downstream_remote_disconnect -", Some((7, pass(true, false, None)))),
            ("7 0 0 DC downstream_remote_disconnect -", Some((7, pass(false, false, None)))),
            ("7 - 402 - wasm_local_reply -", Some((7, pass(false, false, None)))),
            ("- 1 200 - via_upstream 0.001", None),
            ("7 1 200 - via_", None),
        ] {
            assert_eq!(parse(line), expected, "{line}");
        }
    }
}
