//! `farebox lint --envoy`: what is wrong in the configuration of an Envoy, with file and line.

use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::Failure;
use super::{OutputArgs, print, print_json};
use crate::config::{ConfigError, Environment, Outline};
use crate::envoy::Configuration;
use crate::envoy::explain::Book;
use crate::envoy::lint::{Report, Severity, Sidecar, lint, markdown};

/// What is checked, and how it is told.
#[derive(Debug, Args)]
pub(super) struct LintArgs {
    /// What Envoy starts with (YAML or JSON), or the answer of its /config_dump; - is standard input.
    #[arg(long, value_name = "FILE", required_unless_present = "markdown")]
    envoy: Option<PathBuf>,
    /// All rules as a document: `docs/envoy-lint.md`.
    #[arg(long, conflicts_with = "envoy")]
    markdown: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn execute(args: &LintArgs, config: &Path) -> Result<(), Failure> {
    let Some(envoy) = args.envoy.as_deref().filter(|_| !args.markdown) else {
        return print(&markdown());
    };
    let configuration = Configuration::load(envoy)?;
    let outline = outline(config)?;
    let file = config.display().to_string();
    let sidecar = outline.as_ref().map(|outline| Sidecar {
        book: book(&file, outline),
        boot_grace: outline.leases.boot_grace,
        public_port: outline.public.addr.port(),
    });
    let report = lint(&configuration, sidecar);
    if args.output.json {
        print_json(&report)?
    } else {
        print(&told(&configuration, &report))?
    }
    match count(&report, Severity::Error) {
        0 => Ok(()),
        errors => {
            let errors = amount(errors, "error");
            Err(Failure::Findings { file: configuration.file, errors })
        }
    }
}

/// What `farebox.yaml` says about services; nothing when nobody named it and it is not there.
pub(super) fn outline(config: &Path) -> Result<Option<Outline>, ConfigError> {
    if config == Path::new("farebox.yaml") && !config.exists() {
        return Ok(None);
    }
    Outline::load(config, &Environment::of_process()).map(Some)
}

pub(super) fn book<'b>(file: &'b str, outline: &'b Outline) -> Book<'b> {
    let billing = &outline.billing;
    Book { file, prices: &billing.prices, free_quotas: &billing.free_quotas }
}

fn told(configuration: &Configuration, report: &Report) -> String {
    let findings = report.findings.iter().map(|finding| {
        let (severity, rule) = (finding.severity.word(), finding.rule.id());
        format!(
            "{}:{}: {severity}: {} [{rule}]\n    {}\n",
            finding.file, finding.at, finding.message, finding.remedy
        )
    });
    let notes = report.notes.iter().map(|note| format!("note: {note}\n"));
    let counts: Vec<String> = [Severity::Error, Severity::Warning, Severity::Hint]
        .into_iter()
        .map(|severity| (count(report, severity), severity.word()))
        .filter(|(count, _)| *count != 0)
        .map(|(count, word)| amount(count, word))
        .collect();
    let total = if counts.is_empty() { "nothing to mend".to_owned() } else { counts.join(", ") };
    let lines: String = findings.chain(notes).collect();
    format!("{lines}{}: {total}\n", configuration.file)
}

fn count(report: &Report, severity: Severity) -> usize {
    report.findings.iter().filter(|finding| finding.severity == severity).count()
}

fn amount(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}
