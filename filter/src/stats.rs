//! The statistics that the filter adds to Envoy's, under `wasmcustom.`. The set is fixed: no label comes from a request.

/// One statistic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stat {
    /// Calls forwarded and charged, or to be charged when they succeed.
    Admitted,
    /// Calls refused because the balance does not pay for them.
    RefusedBalance,
    /// Calls refused because the free quota is used up and nothing can be bought.
    RefusedQuota,
    /// Calls refused because they name no payer, or two.
    RefusedIdentity,
    /// Calls refused because no rule, or an unreadable one, stands for their route.
    RefusedConfig,
    /// Calls refused because the sidecar did not answer or a bound was reached.
    RefusedUnreachable,
    /// Calls refused because the sidecar does not know the service.
    RefusedService,
    /// Calls refused because the account is frozen.
    RefusedFrozen,
    /// Calls of a shadow route that would have been refused.
    ShadowRefused,
    /// Units allowed without a lease while the sidecar was away; charged later.
    BlindUnits,
    /// Writes to shared data that had to be repeated because another worker was faster.
    CasConflicts,
    /// Messages that the sidecar answered.
    SyncOk,
    /// Messages that failed.
    SyncFailed,
    /// Strict calls that the sidecar decided.
    DeductOk,
    /// Deducts without an answer that could be used.
    DeductFailed,
    /// Charges of strict calls that are to come back: the call failed, its client left, or nobody knows.
    UndoQueued,
    /// Of these, the ones that the sidecar has taken in.
    UndoDone,
    /// Of these, the ones given up because too many waited.
    UndoDropped,
    /// Calls that Envoy sent through the filters again, and that were charged the first time.
    Redirected,
    /// Calls that the sidecar decided one by one because the budget of `max_at_risk` was reached.
    BudgetStrict,
    /// Units drawn and not yet acknowledged by the sidecar: what a killed process would lose.
    UnreportedUnits,
    /// What the paid ones among them cost, in 1e-9 of the currency.
    AtRiskNanos,
    /// Units that the sidecar has lent and that are not acknowledged as used or given back.
    LentUnits,
    /// What the paid ones among them cost, in 1e-9 of the currency: the most that a kill can lose.
    LentNanos,
}

impl Stat {
    /// Every statistic, in the order of their declaration.
    pub const ALL: [Self; 24] = [
        Self::Admitted,
        Self::RefusedBalance,
        Self::RefusedQuota,
        Self::RefusedIdentity,
        Self::RefusedConfig,
        Self::RefusedUnreachable,
        Self::RefusedService,
        Self::RefusedFrozen,
        Self::ShadowRefused,
        Self::BlindUnits,
        Self::CasConflicts,
        Self::SyncOk,
        Self::SyncFailed,
        Self::DeductOk,
        Self::DeductFailed,
        Self::UndoQueued,
        Self::UndoDone,
        Self::UndoDropped,
        Self::Redirected,
        Self::BudgetStrict,
        Self::UnreportedUnits,
        Self::AtRiskNanos,
        Self::LentUnits,
        Self::LentNanos,
    ];

    /// The name, without Envoy's prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admitted => "farebox_admitted",
            Self::RefusedBalance => "farebox_refused_balance",
            Self::RefusedQuota => "farebox_refused_quota",
            Self::RefusedIdentity => "farebox_refused_identity",
            Self::RefusedConfig => "farebox_refused_config",
            Self::RefusedUnreachable => "farebox_refused_unreachable",
            Self::RefusedService => "farebox_refused_service",
            Self::RefusedFrozen => "farebox_refused_frozen",
            Self::ShadowRefused => "farebox_shadow_refused",
            Self::BlindUnits => "farebox_blind_units",
            Self::CasConflicts => "farebox_cas_conflicts",
            Self::SyncOk => "farebox_sync_ok",
            Self::SyncFailed => "farebox_sync_failed",
            Self::DeductOk => "farebox_deduct_ok",
            Self::DeductFailed => "farebox_deduct_failed",
            Self::UndoQueued => "farebox_undo_queued",
            Self::UndoDone => "farebox_undo_done",
            Self::UndoDropped => "farebox_undo_dropped",
            Self::Redirected => "farebox_redirected",
            Self::BudgetStrict => "farebox_budget_strict",
            Self::UnreportedUnits => "farebox_unreported_units",
            Self::AtRiskNanos => "farebox_at_risk_nanos",
            Self::LentUnits => "farebox_lent_units",
            Self::LentNanos => "farebox_lent_nanos",
        }
    }

    /// Whether the statistic goes up and down.
    pub fn is_gauge(self) -> bool {
        matches!(
            self,
            Self::UnreportedUnits | Self::AtRiskNanos | Self::LentUnits | Self::LentNanos
        )
    }
}
