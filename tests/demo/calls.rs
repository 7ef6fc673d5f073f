//! Chapters of the story in which the sidecar is asked about single calls: by a strict route, and by a service behind no
//! Envoy.

use anyhow::Result;
use farebox_core::call::{COMMIT_PATH, DEDUCT_PATH, REFUND_PATH, RESERVE_PATH};
use serde_json::{Value, json};

use crate::story::Story;

/// A strict route, as `envoy/envoy.yaml` says.
pub(crate) const EXPORT: &str = "/v1/asset/export/2026";

/// Whose service asks for itself. Ada's books are compared with Envoy's count, which knows nothing of such calls.
const OWNER: &str = "bob";

impl Story {
    /// Each call of a strict route is decided in the database before it is forwarded.
    pub(crate) async fn strict_route(&mut self) {
        self.screen.chapter(
            "An export is dear to serve: its route is strict, the sidecar decides about each call",
        );
        let answer = self.export().await;
        self.screen.call(&format!("GET {EXPORT}"), &answer);
        self.source_and_charge(&answer, "balance", "0.001");
        let sources =
            "SELECT COUNT(*) FROM billing_record WHERE user_id = 'ada' AND source = 'deduct'";
        let records = self.stack.database.sql(sources).map(|rows| rows.concat().concat());
        self.screen.figure(
            "billing records that this call has made before its answer",
            &records.unwrap_or_default(),
            "1",
        );
    }

    /// A deduct, its repetition, its refund; a reservation and its commit.
    pub(crate) async fn behind_no_envoy(&mut self) -> Result<()> {
        self.screen.chapter("Bob's nightly job runs behind no Envoy: it asks the sidecar itself");
        let deduct = json!({ "user_id": OWNER, "service": "asset", "count": 4, "idempotency_key": "night-1" });
        let first = self.ask(DEDUCT_PATH, &deduct).await;
        let again = self.ask(DEDUCT_PATH, &deduct).await;
        self.screen
            .fact(first == again && first["record_id"].is_string(), "the same key charges once");
        let undo =
            json!({ "user_id": OWNER, "deduct_key": "night-1", "idempotency_key": "undo-night-1" });
        let back = self.ask(REFUND_PATH, &undo).await;
        self.screen.figure("free units back", &back["free_units"].to_string(), "4");

        let reserve = json!({ "user_id": OWNER, "service": "asset", "units": 6, "idempotency_key": "night-2" });
        let reserved = self.ask(RESERVE_PATH, &reserve).await;
        let commit = json!({ "reservation_id": reserved["reservation_id"], "units": 2 });
        let committed = self.ask(COMMIT_PATH, &commit).await;
        self.screen.figure(
            "charged of the 6 units set aside",
            &committed["free_units"].to_string(),
            "2",
        );
        Ok(())
    }

    async fn ask(&self, path: &str, request: &Value) -> Value {
        let answer = self.stack.sidecar.internal().ask(path, request).send().await;
        self.screen.call_briefly(&format!("POST {path}  {request}"), &answer);
        answer.json()
    }
}
