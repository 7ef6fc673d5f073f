//! `farebox errors`: what an error number means and how to go on.

use clap::Args;
use farebox_core::code::{Code, Language};

use super::failure::Failure;
use super::print;
use super::table::{Column, table};
use crate::errors;

/// Which pages, and how.
#[derive(Debug, Args)]
pub(super) struct ErrorsCommand {
    /// The number, such as 190102; without it, all of them are listed.
    #[arg(value_name = "NUMBER", value_parser = number)]
    number: Option<Number>,
    /// In Chinese.
    #[arg(long)]
    zh: bool,
    /// All pages as a document: `docs/errors.md`.
    #[arg(long, conflicts_with_all = ["number", "zh"])]
    markdown: bool,
}

/// A number that somebody gets, or got from billing-service.
#[derive(Debug, Clone, Copy)]
enum Number {
    Known(Code),
    Retired(&'static str, &'static str),
}

fn number(text: &str) -> Result<Number, String> {
    let number = text.parse().ok();
    let retired = errors::RETIRED.into_iter().find(|(retired, ..)| number == Some(*retired));
    let retired = retired.map(|(_, name, instead)| Number::Retired(name, instead));
    let known = number.and_then(Code::from_number).map(Number::Known);
    known.or(retired).ok_or_else(|| "no such number; `farebox errors` lists them".to_owned())
}

pub(super) fn execute(command: &ErrorsCommand) -> Result<(), Failure> {
    if command.markdown {
        return print(&errors::markdown());
    }
    let language = if command.zh { Language::Chinese } else { Language::English };
    match command.number {
        Some(Number::Known(code)) => return print(&errors::page(code, language)),
        Some(Number::Retired(name, instead)) => {
            return print(&format!(
                "{name} of billing-service does not occur any more; in its place: {instead}\n"
            ));
        }
        None => {}
    }
    let columns = [
        Column::Number("number"),
        Column::Number("HTTP"),
        Column::Text("name"),
        Column::Text("title"),
    ];
    let rows = errors::sorted().into_iter().map(|code| {
        let (number, status) = (code.number().to_string(), code.http_status().to_string());
        vec![number, status, errors::name(code), code.title(language).to_owned()]
    });
    print(&table(&columns, rows))
}
