//! How a call ended, judged from what Envoy says about its response (`charge_on: success`).

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The upstream answered well: the call is charged.
    Success,
    /// It did not, or nobody knows: the units come back.
    Failure,
}

/// Envoy's attributes of a finished stream (`response.*`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// `response.code`; 0 when no response was sent.
    pub code: u64,
    /// `response.flags`: non-zero after a reset, a timeout, a failed upstream, a client that left.
    pub flags: u64,
    /// `response.code_details`: who made the response.
    pub code_details: Vec<u8>,
    /// `response.grpc_status`, for gRPC.
    pub grpc_status: Option<u64>,
}

/// gRPC statuses that say that the server did not do its work: UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED,
/// UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
const GRPC_FAILURES: [u64; 7] = [2, 4, 8, 12, 13, 14, 15];

impl Response {
    /// Whether Envoy sends the request through the filters again, instead of this response to the client.
    pub fn is_redirect(&self) -> bool {
        self.code_details == b"internal_redirect"
    }

    /// A call succeeds when the upstream (or a direct response of the route) answered whole, and not with a fault of its
    /// own: a 404 is an answer, a 503 is none, and a refusal by a filter behind this one never reached the upstream.
    pub fn ending(&self) -> Ending {
        let answered = matches!(self.code_details.as_slice(), b"via_upstream" | b"direct_response");
        let sound = (100..500).contains(&self.code) && self.flags == 0;
        let grpc_sound = self.grpc_status.is_none_or(|status| !GRPC_FAILURES.contains(&status));
        if answered && sound && grpc_sound { Ending::Success } else { Ending::Failure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn only_a_whole_answer_of_the_upstream_is_a_success() {
        let response = |code, flags, details: &str, grpc_status| Response {
            code,
            flags,
            code_details: details.as_bytes().to_vec(),
            grpc_status,
        };
        for (response, expected) in [
            (response(200, 0, "via_upstream", None), Ending::Success),
            (response(404, 0, "via_upstream", None), Ending::Success),
            (response(200, 0, "direct_response", None), Ending::Success),
            (response(503, 0, "via_upstream", None), Ending::Failure),
            (response(200, 4, "via_upstream", None), Ending::Failure),
            (response(403, 0, "rbac_access_denied_matched_policy[none]", None), Ending::Failure),
            (response(0, 0, "", None), Ending::Failure),
            (response(200, 0, "via_upstream", Some(0)), Ending::Success),
            (response(200, 0, "via_upstream", Some(5)), Ending::Success),
            (response(200, 0, "via_upstream", Some(14)), Ending::Failure),
        ] {
            assert_eq!(response.ending(), expected, "{response:?}");
        }
    }
}
